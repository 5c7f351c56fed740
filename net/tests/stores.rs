//! Shards and their stores: what is answered when, and what a start and a stop wait for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{PATIENCE, Script, Scripted, config, read, read_to_end, serve_stored, tuning};
use net::{
    DriverChoice, Handler, JoinError, Made, StartError, Store, StoreEvent, Tuning, Waker, Workplace,
};
use shard::{
    Commit, ConnectionId, Effect, Effects, Event, SessionKey, ShardId, Span, StoredQueued, Time,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

on_both_drivers!(
    a_commit_is_answered_when_the_store_says_so,
    everything_that_a_store_says_arrives_in_order,
    a_store_that_stalls_and_goes_on_is_heard,
    a_store_that_fails_ends_the_server,
    a_stop_waits_for_what_was_submitted_and_closes_the_store,
    a_stop_does_not_wait_for_ever,
    connections_are_refused_until_all_shards_are_ready,
    a_shard_that_cannot_be_made_says_why_and_others_give_up,
    a_store_that_fails_before_all_are_ready_fails_the_start,
);

/// For how long something that must not happen is waited for.
const MOMENT: Duration = Duration::from_millis(50);

/// What a store was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Commit(u64),
    Load(u64),
    Close,
}

/// A store whose thread is the test: it hears what is asked, and says what it likes.
struct Remote {
    asked: Sender<(ShardId, Asked)>,
    said: Receiver<StoreEvent>,
    shard: ShardId,
}

/// The test's end of a [`Remote`].
struct Voice {
    say: Sender<StoreEvent>,
    waker: Waker,
}

impl Voice {
    fn say(&self, event: StoreEvent) {
        // The shard may have ended, as some tests want it to.
        let _ = self.say.send(event);
        self.waker.wake();
    }

    fn commit(&self, sequence: u64) {
        self.say(StoreEvent::Committed { sequence });
    }
}

impl Store for Remote {
    fn submit(&mut self, commit: Commit) {
        let _ = self
            .asked
            .send((self.shard, Asked::Commit(commit.sequence)));
    }

    fn load(&mut self, session: SessionKey, _after: u64, _messages_max: u32, _bytes_max: u32) {
        let _ = self.asked.send((self.shard, Asked::Load(session.0)));
    }

    fn poll(&mut self) -> Option<StoreEvent> {
        self.said.try_recv().ok()
    }

    fn close(&mut self) {
        let _ = self.asked.send((self.shard, Asked::Close));
    }
}

/// The test's ends of all stores of a server.
struct Remotes {
    asked: Receiver<(ShardId, Asked)>,
    voices: Receiver<Voice>,
}

impl Remotes {
    /// The voices and what makes their stores.
    fn new() -> (
        Remotes,
        impl Fn(&Workplace) -> Box<dyn Store> + Clone + Send,
    ) {
        let (asked_sender, asked) = channel();
        let (voice_sender, voices) = channel();
        let make = move |place: &Workplace| {
            let (say, said) = channel();
            let waker = place.waker.clone();
            voice_sender.send(Voice { say, waker }).unwrap();
            let asked = asked_sender.clone();
            let shard = place.shard;
            Box::new(Remote { asked, said, shard }) as Box<dyn Store>
        };
        (Remotes { asked, voices }, make)
    }

    fn voice(&self) -> Voice {
        self.voices.recv_timeout(PATIENCE).unwrap()
    }

    #[track_caller]
    fn expect(&self, expected: Asked) {
        let (_, asked) = self.asked.recv_timeout(PATIENCE).unwrap();
        assert_eq!(asked, expected);
    }
}

fn commit(sequence: u64) -> Effect {
    Effect::Commit(Commit {
        sequence,
        ..Commit::default()
    })
}

/// Commits once per receive, and tells its client when that is done.
fn committing() -> Script {
    let mut client: Option<ConnectionId> = None;
    let mut sequence = 0;
    Box::new(move |event, effects| match event {
        Event::Received { connection, .. } => {
            client = Some(connection);
            sequence += 1;
            effects.push(commit(sequence));
        }
        Event::Committed { sequence: last } => {
            assert_eq!(last, sequence);
            effects.outbox(client.unwrap()).push(b'!');
        }
        _ => {}
    })
}

#[track_caller]
fn hears_nothing(client: &mut TcpStream) {
    client.set_read_timeout(Some(MOMENT)).unwrap();
    let kind = loop {
        match client.read(&mut [0]).unwrap_err().kind() {
            // The ring of the probe, taken down, may interrupt the thread that made it.
            ErrorKind::Interrupted => {}
            kind => break kind,
        }
    };
    assert_eq!(kind, ErrorKind::WouldBlock);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn a_commit_is_answered_when_the_store_says_so(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| (committing(), store(&place));
    let Some(running) = serve_stored(driver, 1, tuning(), make) else {
        return;
    };
    let voice = remotes.voice();
    let mut client = running.connect();
    for sequence in 1..=3 {
        client.write_all(b"?").unwrap();
        remotes.expect(Asked::Commit(sequence));
        hears_nothing(&mut client);
        voice.commit(sequence);
        assert_eq!(read(&mut client, 1), b"!");
    }
}

fn everything_that_a_store_says_arrives_in_order(driver: DriverChoice) {
    const LOADS: u64 = 5_000;
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| {
        let (mut client, mut next) = (None, 0);
        let script: Script = Box::new(move |event, effects: &mut Effects| match event {
            Event::Received { connection, .. } => {
                client = Some(connection);
                for session in 0..LOADS {
                    effects.push(Effect::Load {
                        session: SessionKey(session),
                        after: 0,
                        messages_max: 1,
                        bytes_max: 1,
                    });
                }
            }
            Event::Loaded { session, messages } => {
                assert_eq!((session.0, messages.len()), (next, 0));
                next += 1;
                if next == LOADS {
                    effects.outbox(client.unwrap()).push(b'!');
                }
            }
            _ => {}
        });
        (script, store(&place))
    };
    let Some(running) = serve_stored(driver, 1, tuning(), make) else {
        return;
    };
    let voice = remotes.voice();
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    for load in 0..LOADS {
        remotes.expect(Asked::Load(load));
    }
    // One wake-up for half of them, and one each for the rest.
    for load in 0..LOADS {
        let session = SessionKey(load);
        let messages: Vec<StoredQueued> = Vec::new();
        let event = StoreEvent::Loaded { session, messages };
        if load < LOADS / 2 {
            voice.say.send(event).unwrap();
        } else {
            voice.say(event);
        }
    }
    assert_eq!(read(&mut client, 1), b"!");
}

fn a_store_that_stalls_and_goes_on_is_heard(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| {
        let mut client = None;
        let script: Script = Box::new(move |event, effects: &mut Effects| match event {
            Event::Received { connection, .. } => {
                client = Some(connection);
                effects.outbox(connection).push(b'?');
            }
            Event::StoreStalled { reason } => {
                effects.outbox(client.unwrap()).extend(reason.bytes());
            }
            Event::StoreResumed => effects.outbox(client.unwrap()).push(b'+'),
            _ => {}
        });
        (script, store(&place))
    };
    let Some(running) = serve_stored(driver, 1, tuning(), make) else {
        return;
    };
    let voice = remotes.voice();
    let mut client = running.connect();
    harness::exchange(&mut client, b"?");
    let reason = "full".to_owned();
    voice.say(StoreEvent::Stalled { reason });
    assert_eq!(read(&mut client, 4), b"full");
    voice.say(StoreEvent::Resumed);
    assert_eq!(read(&mut client, 1), b"+");
}

fn a_store_that_fails_ends_the_server(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| (committing(), store(&place));
    let Some(running) = serve_stored(driver, 3, tuning(), make) else {
        return;
    };
    let voices = [remotes.voice(), remotes.voice(), remotes.voice()];
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    let (shard, asked) = remotes.asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(asked, Asked::Commit(1));
    let voice = voices
        .iter()
        .find(|voice| voice.waker.shard() == shard)
        .unwrap();
    let reason = "torn".to_owned();
    voice.say(StoreEvent::Failed { reason });
    // Nothing that follows counts any more.
    voice.commit(1);
    match running.into_server().join() {
        Err(JoinError::Store { shard: at, reason }) => assert_eq!((at, &*reason), (shard, "torn")),
        other => panic!("{other:?}"),
    }
    let mut rest = Vec::new();
    // Closed, gently or not; but never acknowledged.
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

fn a_stop_waits_for_what_was_submitted_and_closes_the_store(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| {
        let mut script = committing();
        // The client is gone by the time the commit is done.
        let script: Script = Box::new(move |event, effects: &mut Effects| {
            if !matches!(event, Event::Committed { .. }) {
                script(event, effects);
            }
        });
        (script, store(&place))
    };
    let Some(running) = serve_stored(driver, 1, tuning(), make) else {
        return;
    };
    let voice = remotes.voice();
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    remotes.expect(Asked::Commit(1));
    let server = running.into_server();
    server.stop();
    assert!(read_to_end(&mut client).is_empty());
    let (sender, joined) = channel();
    thread::spawn(move || sender.send(server.join()));
    assert!(joined.recv_timeout(MOMENT).is_err(), "stopped too early");
    assert!(remotes.asked.try_recv().is_err(), "closed too early");
    voice.commit(1);
    joined.recv_timeout(PATIENCE).unwrap().unwrap();
    remotes.expect(Asked::Close);
}

fn a_stop_does_not_wait_for_ever(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let make = move |place: Workplace| (committing(), store(&place));
    let tuning = Tuning {
        stop_ms: 100,
        ..tuning()
    };
    let Some(running) = serve_stored(driver, 1, tuning, make) else {
        return;
    };
    let mut client = running.connect();
    client.write_all(b"?").unwrap();
    remotes.expect(Asked::Commit(1));
    let server = running.into_server();
    server.stop();
    assert!(matches!(server.join(), Err(JoinError::Abandoned(_))));
    assert!(
        remotes.asked.try_recv().is_err(),
        "a store that does not answer is not closed"
    );
}

/// Commits when it is made, and is ready when that is done.
struct Beginner {
    scripted: Scripted,
    has_begun: bool,
}

impl Handler for Beginner {
    fn handle(&mut self, now: Time, event: Event<'_>, effects: &mut Effects) {
        match event {
            Event::Tick => {
                self.has_begun = true;
                effects.push(commit(1));
            }
            Event::Committed { .. } => effects.push(Effect::Ready),
            event => self.scripted.handle(now, event, effects),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        (!self.has_begun).then_some(Time::default() + Span(1))
    }

    fn awaits_ready(&self) -> bool {
        true
    }
}

fn beginner(place: &Workplace, store: Box<dyn Store>) -> Made<Beginner> {
    assert!(!place.is_given_up());
    Made {
        handler: Beginner {
            scripted: Scripted::new(Box::new(harness::echo)),
            has_begun: false,
        },
        store: Some(store),
        helpers: None,
        console: None,
    }
}

/// A port that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn connections_are_refused_until_all_shards_are_ready(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let address = free_address();
    let mut config = config(driver, 2, tuning());
    config.mqtt = vec![address];
    let starting = thread::spawn(move || {
        net::start_stored(config, move |place| Ok(beginner(&place, store(&place))))
    });
    let Ok(first) = remotes.voices.recv_timeout(PATIENCE) else {
        let refused = starting.join().unwrap();
        assert!(matches!(refused, Err(StartError::IoUringRefused(_))));
        return;
    };
    let second = remotes.voice();
    remotes.expect(Asked::Commit(1));
    remotes.expect(Asked::Commit(1));
    let refused =
        || TcpStream::connect(address).unwrap_err().kind() == ErrorKind::ConnectionRefused;
    assert!(refused());
    first.commit(1);
    thread::sleep(MOMENT);
    assert!(refused() && !starting.is_finished());
    second.commit(1);
    let server = starting.join().unwrap().unwrap();
    let mut clients: Vec<_> = (0..10)
        .map(|_| TcpStream::connect(server.listeners()[0].1).unwrap())
        .collect();
    for client in &mut clients {
        harness::exchange(client, b"hello");
    }
    server.stop();
    server.join().unwrap();
}

fn a_shard_that_cannot_be_made_says_why_and_others_give_up(driver: DriverChoice) {
    let (_remotes, store) = Remotes::new();
    let made = net::start_stored(config(driver, 2, tuning()), move |place| {
        if place.shard == ShardId(1) {
            return Err("shard-1.redb is damaged".to_owned());
        }
        while !place.is_given_up() {
            thread::yield_now();
        }
        let store = store(&place);
        Ok(Made {
            handler: Scripted::new(Box::new(harness::echo)),
            store: Some(store),
            helpers: None,
            console: None,
        })
    });
    match made {
        Err(StartError::Store { shard, reason }) => {
            assert_eq!((shard.0, &*reason), (1, "shard-1.redb is damaged"));
        }
        Err(StartError::IoUringRefused(_)) => {}
        other => panic!("{other:?}"),
    }
}

fn a_store_that_fails_before_all_are_ready_fails_the_start(driver: DriverChoice) {
    let (remotes, store) = Remotes::new();
    let config = config(driver, 2, tuning());
    let starting = thread::spawn(move || {
        net::start_stored(config, move |place| Ok(beginner(&place, store(&place))))
    });
    if let Ok(voice) = remotes.voices.recv_timeout(PATIENCE) {
        let reason = "torn".to_owned();
        voice.say(StoreEvent::Failed { reason });
    }
    match starting.join().unwrap() {
        Err(StartError::Store { reason, .. }) => assert_eq!(reason, "torn"),
        Err(StartError::IoUringRefused(_)) => {}
        other => panic!("{other:?}"),
    }
}
