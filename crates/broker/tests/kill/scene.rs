//! All clients in one poll loop around one broker, which is killed and started again.

use crate::chance::Chance;
use crate::history::{History, Micros};
use crate::peer::{Peer, Stage, Surroundings};
use crate::program::{Place, Program};
use crate::publisher::{self, Publisher};
use crate::retained;
use crate::subscriber::{self, Subscriber};
use crate::topics::{DEVICES, event_filters, event_topics, keep_topics};
use crate::truth::Truth;
use mio::{Events, Poll, Token};
use mqtt_v5_codec::{QoS, Version};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// The longest that the broker may take to start and recover.
const START_MAX: Micros = 30_000_000;
/// The longest that a planned stop may take.
const STOP_MAX: Micros = 20_000_000;
/// Draining ends when nothing has changed for so long.
const STUCK: Micros = 6_000_000;
/// Nothing may come for so long before all is called drained.
const QUIET: Micros = 100_000;
/// One turn of the loop waits no longer.
const TURN: Duration = Duration::from_millis(1);

/// Publishers: client identifier, version, QoS, whether retained, messages under way.
const PUBLISHERS: [(&str, Version, QoS, bool, usize); 8] = [
    ("sender-a", Version::V5, QoS::AtLeastOnce, false, 8),
    ("sender-b", Version::V311, QoS::AtLeastOnce, false, 3),
    ("sender-c", Version::V5, QoS::ExactlyOnce, false, 8),
    ("sender-d", Version::V311, QoS::ExactlyOnce, false, 16),
    (DEVICES[0], Version::V5, QoS::ExactlyOnce, false, 4),
    (DEVICES[1], Version::V5, QoS::AtLeastOnce, false, 16),
    ("keeper-a", Version::V5, QoS::AtLeastOnce, true, 4),
    ("keeper-b", Version::V311, QoS::ExactlyOnce, true, 4),
];

/// Subscribers: client identifier, version, QoS, longest hesitation in ms, session expiry.
const SUBSCRIBERS: [(&str, Version, QoS, u64, Option<u32>); 10] = [
    ("reader-a", Version::V5, QoS::ExactlyOnce, 0, None),
    ("reader-b", Version::V311, QoS::ExactlyOnce, 10, None),
    ("reader-c", Version::V5, QoS::AtLeastOnce, 10, None),
    ("reader-d", Version::V311, QoS::AtLeastOnce, 0, None),
    ("reader-e", Version::V5, QoS::ExactlyOnce, 30, None),
    (DEVICES[2], Version::V5, QoS::ExactlyOnce, 3, None),
    (DEVICES[3], Version::V311, QoS::AtLeastOnce, 3, None),
    ("reader-f", Version::V311, QoS::ExactlyOnce, 0, None),
    ("brief-a", Version::V5, QoS::AtLeastOnce, 0, Some(3)),
    ("brief-b", Version::V5, QoS::ExactlyOnce, 5, Some(3)),
];

/// Two that share one subscription: each message must reach one of them.
const CREW: [&str; 2] = ["crew-a", "crew-b"];
/// What they subscribe to.
const CREW_FILTERS: [&str; 2] = ["$share/crew/+/ev/1", "$share/crew/hall/ev/0"];

/// Everything.
pub struct Scene {
    /// What has been promised.
    pub truth: Truth,
    /// Where the broker runs.
    pub place: Place,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    program: Option<Program>,
    poll: Poll,
    clock: Instant,
    /// When a packet was last seen.
    active: Micros,
}

impl Scene {
    /// Nobody is connected and no broker runs.
    pub fn new(place: Place, chance: &mut Chance) -> Scene {
        let mut topics = event_topics();
        let events: Vec<usize> = (0..topics.len()).collect();
        let mut publishers = Vec::new();
        for (at, (name, version, qos, retain, window_max)) in PUBLISHERS.into_iter().enumerate() {
            let mut own = events.clone();
            if retain {
                own = (topics.len()..topics.len() + keep_topics(at).len()).collect();
                topics.extend(keep_topics(at));
            }
            let manner = publisher::Manner {
                qos,
                topics: own,
                retain,
                window_max,
            };
            let peer = Peer::new(name, version, Token(at));
            let chance = Chance::new(chance.draw());
            publishers.push(Publisher::new(at, peer, manner, chance));
        }
        let history = History::begin(&place.folder);
        let mut truth = Truth::new(topics, publishers.len(), history);
        let mut subscribers = Vec::new();
        for (name, version, qos, hesitates_ms, expiry_s) in SUBSCRIBERS {
            let filters = some_filters(chance);
            let index = truth.add_subscriber(name, version, qos, filters);
            let mut peer = Peer::new(name, version, Token(publishers.len() + index));
            peer.expiry_s = expiry_s.unwrap_or(peer.expiry_s);
            // One that is full soon: messages wait behind the window.
            peer.receive_maximum = NonZeroU16::new(if index == 4 { 3 } else { 2_000 });
            let manner = subscriber::Manner {
                hesitates_us: hesitates_ms * 1_000,
                stays_us: 400_000,
                away_us: if expiry_s.is_some() {
                    1_200_000
                } else {
                    250_000
                },
            };
            let chance = Chance::new(chance.draw());
            subscribers.push(Subscriber::new(index, peer, qos, manner, chance));
        }
        let filters = CREW_FILTERS.map(str::to_owned).to_vec();
        // At QoS 2 a group may have a message twice after a crash.
        let qos = QoS::AtLeastOnce;
        let index = truth.add_subscriber("crew", Version::V5, qos, filters);
        truth.subscribers[index].is_group = true;
        for name in CREW {
            let token = Token(publishers.len() + subscribers.len());
            let peer = Peer::new(name, Version::V5, token);
            let manner = subscriber::Manner {
                hesitates_us: 2_000,
                stays_us: 400_000,
                away_us: 250_000,
            };
            let chance = Chance::new(chance.draw());
            subscribers.push(Subscriber::new(index, peer, qos, manner, chance));
        }
        Scene {
            truth,
            place,
            publishers,
            subscribers,
            program: None,
            poll: Poll::new().unwrap(),
            clock: Instant::now(),
            active: 0,
        }
    }

    /// Starts the broker; does not wait for it.
    pub fn start(&mut self, shards: u16) {
        assert!(self.program.is_none());
        self.truth.run += 1;
        self.tell_time();
        let what = format_args!("start {} with {shards} shards", self.truth.run);
        self.truth.history.line(self.truth.now, "broker", what);
        self.program = Some(Program::start(&self.place, shards));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.tell_time();
        self.truth.history.line(self.truth.now, "broker", "SIGKILL");
        self.program.take().expect("it runs").kill();
        // So that it is noticed now, and not after whatever comes next.
        self.turn();
    }

    /// SIGTERM: a planned stop. Clients go on meanwhile.
    pub fn stop(&mut self) {
        let begun = self.tell_time();
        self.truth.history.line(begun, "broker", "SIGTERM");
        let mut program = self.program.take().expect("it runs");
        program.stop();
        let status = loop {
            self.turn();
            match program.ended() {
                Some(status) => break status.to_string(),
                None if self.truth.now > begun + STOP_MAX => break "late".to_owned(),
                None => {}
            }
        };
        if status != "exit status: 0" {
            self.truth.violation("planned stop", status);
        }
        self.turn();
    }

    /// All connections end, the broker goes on.
    pub fn cut(&mut self) {
        self.tell_time();
        for publisher in &mut self.publishers {
            publisher.cut(&mut self.truth);
        }
        for subscriber in &mut self.subscribers {
            subscriber.cut(&mut self.truth);
        }
    }

    /// Clients do what they do for so long.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.clock.elapsed() + time;
        while self.clock.elapsed() < end {
            self.turn();
        }
    }

    /// Waits until the broker listens. False if it does not.
    pub fn await_broker(&mut self) -> bool {
        let begun = self.tell_time();
        while self.address().is_none() {
            self.turn();
            let ended = self.program.as_mut().and_then(Program::ended);
            if let Some(status) = ended {
                self.truth.violation("the broker ended by itself", status);
                return false;
            }
            if self.truth.now > begun + START_MAX {
                self.truth.violation("the broker does not start", "");
                return false;
            }
        }
        true
    }

    /// Complains if the broker has ended without being told to.
    pub fn check_alive(&mut self) {
        if let Some(status) = self.program.as_mut().and_then(Program::ended) {
            self.truth.violation("the broker ended by itself", status);
        }
    }

    /// Compares all retained messages.
    pub fn check_retained(&mut self) {
        let Some(address) = self.address() else {
            return;
        };
        let retain = |at: &usize| PUBLISHERS[*at].3;
        let keepers: Vec<usize> = (0..PUBLISHERS.len()).filter(retain).collect();
        retained::check(&mut self.truth, &keepers, address, self.clock);
    }

    /// Nothing new is published; waits until everything under way has arrived, then judges.
    /// `is_end`: also those whose session may expire must have come back.
    pub fn drain(&mut self, is_end: bool) {
        self.truth.history.line(self.truth.now, "scene", "drains");
        self.rest(true);
        let (mut progress, mut last) = (self.measure(), self.tell_time());
        loop {
            self.turn();
            for subscriber in &self.subscribers {
                let is_away = subscriber.is_away() && !is_end;
                self.truth.subscribers[subscriber.index()].is_away = is_away;
            }
            let is_quiet = self.truth.now > self.active + QUIET;
            if is_quiet && self.is_idle() && self.truth.missing() == 0 {
                break;
            }
            let measured = self.measure();
            if measured != progress {
                (progress, last) = (measured, self.truth.now);
            }
            if self.truth.now > last + STUCK {
                self.tell_what_remains();
                break;
            }
        }
        self.truth
            .history
            .line(self.truth.now, "scene", "has drained");
        self.check_alive();
        self.truth.settle();
        self.check_retained();
        if self.truth.is_kept() {
            self.truth.history.turn();
        }
        self.rest(false);
    }

    fn rest(&mut self, is_resting: bool) {
        self.publishers
            .iter_mut()
            .for_each(|p| p.is_resting = is_resting);
        self.subscribers
            .iter_mut()
            .for_each(|s| s.is_resting = is_resting);
    }

    fn is_idle(&self) -> bool {
        let publishers = self.publishers.iter().all(Publisher::is_idle);
        let is_away = |at: usize| self.truth.subscribers[at].is_away;
        let mut subscribers = self.subscribers.iter();
        publishers && subscribers.all(|s| is_away(s.index()) || s.is_idle())
    }

    /// Changes whenever something gets on.
    fn measure(&self) -> (Micros, usize) {
        let up = self
            .subscribers
            .iter()
            .filter(|s| s.peer.stage == Stage::Up);
        (self.active, up.count())
    }

    fn tell_what_remains(&mut self) {
        for publisher in self.publishers.iter().filter(|p| !p.is_idle()) {
            let what = format!("{}: {}", publisher.peer.name, publisher.remains());
            self.truth.violation("stuck", what);
        }
        for subscriber in self.subscribers.iter().filter(|s| !s.is_idle()) {
            let what = format!("{}: {}", subscriber.peer.name, subscriber.remains());
            self.truth.violation("stuck", what);
        }
    }

    fn address(&self) -> Option<std::net::SocketAddr> {
        self.program.as_ref().and_then(Program::address)
    }

    fn tell_time(&mut self) -> Micros {
        self.truth.now = self.clock.elapsed().as_micros() as Micros;
        self.truth.now
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        match self.poll.poll(&mut events, Some(TURN)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => panic!("{error}"),
            _ => {}
        }
        self.tell_time();
        let truth = &mut self.truth;
        for event in &events {
            self.active = truth.now;
            let at = event.token().0;
            match at.checked_sub(self.publishers.len()) {
                None => self.publishers[at].on_ready(truth),
                Some(at) => self.subscribers[at].on_ready(truth),
            }
        }
        let surroundings = Surroundings {
            registry: self.poll.registry(),
            address: self.program.as_ref().and_then(Program::address),
        };
        for publisher in &mut self.publishers {
            publisher.tick(truth, &surroundings);
        }
        for subscriber in &mut self.subscribers {
            subscriber.tick(truth, &surroundings);
        }
    }
}

/// Four to seven filters of those there are.
fn some_filters(chance: &mut Chance) -> Vec<String> {
    let mut filters = event_filters();
    let count = chance.between(4, 7) as usize;
    while filters.len() > count {
        filters.swap_remove(chance.index(filters.len()));
    }
    filters
}
