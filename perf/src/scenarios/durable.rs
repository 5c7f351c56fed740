//! What it costs to keep messages for sessions that are away, and what a kill then takes.
//!
//! Every message is published with QoS 1 and matches exactly one durable session that is offline, so
//! a broker that promises to keep it has to have it on disk before it acknowledges. Each publisher
//! has one message on its way: how many a broker can put on disk at once is up to the number of
//! publishers. After the last acknowledgement the broker is killed, started again in the same
//! directory, and the sessions come back for what they were promised.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use crate::brokers::{self, Kind, Places, Running};
use crate::fleet::{Fleet, Receiver};
use crate::measure::{Interval, Snapshot};
use crate::options::Options;
use crate::outcome::{Better, Outcome, number};
use crate::procfs::written_bytes;
use crate::syncs::Counting;
use crate::wire::{self, Packet, Stamp, Template, numbered};

/// The numbers of publishers, unless one is asked for.
const PUBLISHERS: [usize; 4] = [1, 10, 100, 1_000];
/// Durable sessions that share the messages evenly. Enough that nobody's queue reaches the 100,000
/// messages or 64 MiB that ours keeps per session.
const SESSIONS: u32 = 100;
/// What [`SESSIONS`] queues of ours hold at least, in messages and bytes.
const QUEUES_HOLD: (u64, u64) = (100_000 * SESSIONS as u64, (64 << 20) * SESSIONS as u64);
/// The topic of a message; the number says whose it is.
const TOPIC: &str = "kept/#######";
/// How long syncs are counted, after the timed part.
const COUNTED: Duration = Duration::from_secs(1);
/// The longest wait for acknowledgements that are due.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);
/// The longest wait for the first message after a restart, and for one more after the last.
const FIRST_MAX: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_millis(1_500);
/// The longest that is spent on taking messages back.
const TAKE_MAX: Duration = Duration::from_secs(60);

/// Publishers that have one message each on its way.
struct Load {
    epoch: Instant,
    now_ns: u64,
    templates: Vec<Template>,
    /// Messages that each has sent, and when it sent the last.
    sent: Vec<(u32, u64)>,
    acknowledged: u64,
    on_their_way: usize,
    /// Whether an acknowledgement is answered with the next message.
    goes_on: bool,
    latency: Histogram<u64>,
    faults: Vec<String>,
}

impl Load {
    fn new(options: &Options, publishers: usize) -> Load {
        let template = Template::new(options.version(), TOPIC, 1, false, options.payload(64));
        Load {
            epoch: Instant::now(),
            now_ns: 0,
            templates: vec![template; publishers],
            sent: vec![(0, 0); publishers],
            acknowledged: 0,
            on_their_way: 0,
            goes_on: true,
            latency: crate::traffic::histogram(),
            faults: Vec::new(),
        }
    }

    fn push(&mut self, publisher: usize, out: &mut Vec<u8>) {
        let (sequence, at_ns) = &mut self.sent[publisher];
        let stamp = Stamp {
            publisher: publisher as u32,
            sequence: *sequence,
            intended_ns: self.now_ns,
        };
        let session = (publisher as u32).wrapping_add(*sequence) % SESSIONS;
        let packet_id = (*sequence % 65_535 + 1) as u16;
        *sequence += 1;
        *at_ns = self.now_ns;
        self.on_their_way += 1;
        self.templates[publisher].push(out, packet_id, session, stamp);
    }
}

impl Receiver for Load {
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>) {
        let Packet::Puback(packet_id) = packet else {
            return;
        };
        let (sequence, at_ns) = self.sent[client];
        if u32::from(packet_id) != sequence.wrapping_sub(1) % 65_535 + 1 {
            self.faults.push(format!(
                "client {client}: a PUBACK for what it had not sent"
            ));
            return;
        }
        self.latency.saturating_record(self.now_ns - at_ns);
        self.acknowledged += 1;
        self.on_their_way -= 1;
        if self.goes_on {
            self.push(client, replies);
        }
    }

    fn on_read(&mut self) {
        self.now_ns = self.epoch.elapsed().as_nanos() as u64;
    }

    fn on_closed(&mut self, client: usize, why: &str) {
        self.faults.push(format!("CLOSED: client {client}: {why}"));
    }
}

/// What the sessions get when they come back.
struct Returned {
    /// Per publisher: which of its messages came, one bit each.
    seen: Vec<Vec<u64>>,
    distinct: u64,
    again: u64,
    resumed: u32,
    refused: Option<String>,
    last: Option<Instant>,
}

impl Receiver for Returned {
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>) {
        match packet {
            Packet::Connack {
                code: 0,
                session_present,
            } => self.resumed += u32::from(session_present),
            Packet::Connack { code, .. } => {
                self.refused = Some(format!("session {client}: CONNACK with code {code}"));
            }
            Packet::Publish {
                packet_id, payload, ..
            } => {
                if let Some(packet_id) = packet_id {
                    wire::puback(packet_id, replies);
                }
                self.last = Some(Instant::now());
                let Some(stamp) = Stamp::read(payload) else {
                    return;
                };
                let word = self
                    .seen
                    .get_mut(stamp.publisher as usize)
                    .and_then(|seen| seen.get_mut(stamp.sequence as usize / 64));
                let Some(word) = word else { return };
                let bit = 1 << (stamp.sequence % 64);
                self.distinct += u64::from(*word & bit == 0);
                self.again += u64::from(*word & bit != 0);
                *word |= bit;
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, client: usize, why: &str) {
        self.refused = Some(format!("session {client}: {why}"));
    }
}

/// Runs all numbers of publishers, each against a broker of its own with an empty directory.
///
/// # Errors
/// When the broker does not start, refuses clients or ends by itself.
pub fn durable(kind: Kind, places: &Places, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::new("durable", kind.name());
    outcome.parameter("sessions", SESSIONS);
    outcome.parameter("payload bytes", options.payload(64));
    let counts = match options.publishers {
        Some(count) => vec![count.max(1)],
        None => PUBLISHERS.to_vec(),
    };
    for publishers in counts {
        let mut running = brokers::start(kind, places, options.version())?;
        step(&mut running, places, options, publishers, &mut outcome)
            .with_context(|| format!("with {publishers} publishers"))?;
    }
    Ok(outcome)
}

fn step(
    running: &mut Running,
    places: &Places,
    options: &Options,
    publishers: usize,
    outcome: &mut Outcome,
) -> Result<()> {
    subscribe(running, options)?;
    let mut load = Load::new(options, publishers);
    let mut fleet = Fleet::new(running.subject.address, options.version())?;
    fleet.open(publishers, options.at_once.max(1))?;
    let timed = publish(running, options, &mut fleet, &mut load)?;
    // Nothing is on its way: what was promised is all there is, and the broker has no time left.
    running.kill();
    drop(fleet);
    let started = running.start_again(places)?;
    let returned = take_back(running, options, &load)?;

    let at = |what: &str| format!("{what}, {publishers} publishers");
    let mut add = |what: &str, unit: &str, better: Better, value: f64| {
        outcome.figure(&at(what), unit, better, value);
    };
    let (interval, count) = (timed.interval, timed.acknowledged);
    let rate = interval.per_second(count);
    add("acknowledged", "/s", Better::Higher, rate);
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let us = timed.latency.value_at_quantile(quantile) as f64 / 1e3;
        add(&format!("latency {name}"), "µs", Better::Lower, us);
    }
    add(
        "CPU per message",
        "µs",
        Better::Lower,
        interval.us_per(count),
    );
    let written = timed.written as f64 / count as f64;
    add("written per message", "bytes", Better::Lower, written);
    let (syncs, counted_rate) = (timed.syncs.unwrap_or(f64::NAN), timed.counted_rate);
    add("syncs", "/s", Better::Lower, syncs);
    add(
        "messages per sync",
        "",
        Better::Higher,
        counted_rate / syncs,
    );
    let lost = load.acknowledged - returned.distinct;
    add("lost by SIGKILL", "messages", Better::Lower, lost as f64);
    outcome.interval(&interval);
    outcome.detail(&at("acknowledged in all"), load.acknowledged as f64);
    outcome.detail(&at("came twice"), returned.again as f64);
    outcome.detail(&at("sessions resumed"), f64::from(returned.resumed));
    outcome.detail(&at("seconds to start again"), started.as_secs_f64());
    let bytes = load.acknowledged * load.templates[0].len() as u64;
    if load.acknowledged > QUEUES_HOLD.0 || bytes > QUEUES_HOLD.1 {
        outcome
            .warnings
            .push("more messages than queues of ours may hold".to_owned());
    }
    outcome.faults.extend(load.faults.into_iter().take(1));
    eprintln!(
        "  durable {}, {publishers} publishers: {} acknowledged/s, p99 {} µs, {} a sync, lost {lost} \
         of {}",
        running.subject.name,
        number(rate),
        number(timed.latency.value_at_quantile(0.99) as f64 / 1e3),
        number(counted_rate / syncs),
        load.acknowledged,
    );
    Ok(())
}

/// The durable sessions: they subscribe and leave.
fn subscribe(running: &Running, options: &Options) -> Result<()> {
    let mut fleet = keepers(running, options)?;
    fleet.open(SESSIONS as usize, options.at_once.clamp(1, 100))?;
    let plans: Vec<_> = (0..SESSIONS)
        .map(|session| (session as usize, vec![numbered(TOPIC, session)]))
        .collect();
    fleet.subscribe(&plans, 1)?;
    fleet.close();
    // Their DISCONNECT is not answered.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

fn keepers(running: &Running, options: &Options) -> Result<Fleet> {
    Fleet::kept(running.subject.address, options.version(), "keeper")
}

/// The part of a step that is timed, and the part in which syncs are counted.
struct Timed {
    interval: Interval,
    acknowledged: u64,
    latency: Histogram<u64>,
    written: u64,
    /// A second, in the counted part.
    syncs: Option<f64>,
    /// Acknowledged messages a second in that part.
    counted_rate: f64,
}

fn publish(
    running: &Running,
    options: &Options,
    fleet: &mut Fleet,
    load: &mut Load,
) -> Result<Timed> {
    let mut bytes = Vec::new();
    load.on_read();
    for publisher in 0..load.sent.len() {
        bytes.clear();
        load.push(publisher, &mut bytes);
        fleet.send(publisher, &bytes);
    }
    let pid = running.subject.pid;
    go_on(fleet, load, options.warm_up(), &mut || false)?;
    let (before, written) = (Snapshot::take(&running.subject)?, written_bytes(pid)?);
    let counted = load.acknowledged;
    load.latency.reset();
    go_on(fleet, load, options.measured(), &mut || false)?;
    let interval = Snapshot::take(&running.subject)?.since(&before);
    let written = written_bytes(pid)? - written;
    let acknowledged = load.acknowledged - counted;
    let latency = load.latency.clone();
    ensure!(acknowledged > 0, "nothing was acknowledged");

    let mut counting = Counting::start(pid, COUNTED);
    let (began, counted) = (Instant::now(), load.acknowledged);
    go_on(fleet, load, 5 * COUNTED, &mut || {
        counting.as_mut().is_none_or(Counting::is_over)
    })?;
    let counted_rate = (load.acknowledged - counted) as f64 / began.elapsed().as_secs_f64();
    let syncs = counting.and_then(Counting::per_second);

    load.goes_on = false;
    let on_their_way = load.on_their_way;
    let began = Instant::now();
    while load.on_their_way > 0 && began.elapsed() < ACKNOWLEDGE_MAX {
        fleet.turn(Some(Duration::from_millis(20)), load)?;
    }
    if load.on_their_way > 0 {
        load.faults.push(format!(
            "UNANSWERED: {} of the last {on_their_way} messages",
            load.on_their_way
        ));
    }
    Ok(Timed {
        interval,
        acknowledged,
        latency,
        written,
        syncs,
        counted_rate,
    })
}

/// Lets the load go on for so long, or until `is_over` says so.
fn go_on(
    fleet: &mut Fleet,
    load: &mut Load,
    most: Duration,
    is_over: &mut dyn FnMut() -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut looked = began;
    while began.elapsed() < most {
        fleet.turn(Some(Duration::from_millis(10)), load)?;
        if looked.elapsed() > Duration::from_millis(10) {
            looked = Instant::now();
            if is_over() {
                break;
            }
        }
    }
    Ok(())
}

/// Lets the sessions come back and counts what they get.
fn take_back(running: &Running, options: &Options, load: &Load) -> Result<Returned> {
    let words = |&(sent, _): &(u32, u64)| vec![0; (sent as usize).div_ceil(64)];
    let mut returned = Returned {
        seen: load.sent.iter().map(words).collect(),
        distinct: 0,
        again: 0,
        resumed: 0,
        refused: None,
        last: None,
    };
    let mut fleet = keepers(running, options)?;
    fleet.begin(SESSIONS as usize)?;
    let began = Instant::now();
    while returned.distinct < load.acknowledged && began.elapsed() < TAKE_MAX {
        fleet.turn(Some(Duration::from_millis(20)), &mut returned)?;
        if let Some(why) = returned.refused.take() {
            anyhow::bail!("after the restart: {why}");
        }
        let is_quiet = match returned.last {
            Some(at) => at.elapsed() > QUIET,
            None => began.elapsed() > FIRST_MAX,
        };
        if is_quiet {
            break;
        }
    }
    fleet.close();
    Ok(returned)
}
