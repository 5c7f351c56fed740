//! A retained storm: many messages are kept, then clients subscribe to all of them at once.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use crate::fleet::{Fleet, Receiver};
use crate::measure::Snapshot;
use crate::outcome::Better;
use crate::procfs::resident_bytes;
use crate::wire::{self, Packet, Stamp, Template};

/// Messages that may be unacknowledged while they are set.
const WINDOW: usize = 1_000;
/// Without a message for so long, no more will come.
const QUIET: Duration = Duration::from_secs(5);
/// Subscriptions of one storm: SUBSCRIBE needs an identifier of its own.
const SUBSCRIBE_ID: u16 = 1;

/// Counts what comes.
struct Storm {
    acknowledged: usize,
    retained: u64,
    /// Per client: which of the messages came, one bit each.
    seen: Vec<Vec<u64>>,
    first_subscriber: usize,
    duplicated: u64,
    closed: Vec<String>,
}

impl Storm {
    /// Nothing has come yet of `count` messages for each of these clients.
    fn new(count: usize, subscribers: Range<usize>) -> Storm {
        Storm {
            acknowledged: 0,
            retained: 0,
            seen: vec![vec![0; count.div_ceil(64)]; subscribers.len()],
            first_subscriber: subscribers.start,
            duplicated: 0,
            closed: Vec::new(),
        }
    }

    /// Takes what comes until `expected` have come, or nothing does any more.
    fn wait_for(&mut self, fleet: &mut Fleet, expected: u64) -> Result<()> {
        let mut moved = (0, Instant::now());
        while self.retained < expected && moved.1.elapsed() < QUIET {
            fleet.turn(Some(Duration::from_millis(20)), self)?;
            if self.retained != moved.0 {
                moved = (self.retained, Instant::now());
            }
        }
        Ok(())
    }
}

impl Receiver for Storm {
    fn on_packet(&mut self, client: usize, packet: Packet<'_>, replies: &mut Vec<u8>) {
        match packet {
            Packet::Puback(_) => self.acknowledged += 1,
            Packet::Publish {
                packet_id,
                retain,
                payload,
            } => {
                if let Some(packet_id) = packet_id {
                    wire::puback(packet_id, replies);
                }
                let Some(stamp) = Stamp::read(payload).filter(|_| retain) else {
                    return;
                };
                let word = self
                    .seen
                    .get_mut(client.wrapping_sub(self.first_subscriber))
                    .and_then(|seen| seen.get_mut(stamp.sequence as usize / 64));
                let Some(word) = word else { return };
                let bit = 1 << (stamp.sequence % 64);
                self.duplicated += u64::from(*word & bit != 0);
                self.retained += u64::from(*word & bit == 0);
                *word |= bit;
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, client: usize, why: &str) {
        self.closed.push(format!("client {client}: {why}"));
    }
}

/// Sets the messages, then lets every subscriber have them all.
pub(super) fn retained(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let count = options.count.unwrap_or(10_000).max(1);
    let mut fleet = bench.fleet()?;
    let publisher = bench.open(&mut fleet, 1)?.start;
    let subscribers = bench.open(&mut fleet, options.subscribers.unwrap_or(20).max(1))?;
    let qos = options.subscriber_qos.unwrap_or(1);
    bench.outcome.parameter("retained messages", count);
    bench.outcome.parameter("subscribers", subscribers.len());
    bench.outcome.parameter("subscriber QoS", qos);
    bench
        .outcome
        .parameter("payload bytes", options.payload(64));
    let mut storm = Storm::new(count, subscribers.clone());
    let before_bytes = resident_bytes(bench.subject.pid)?;
    let before = Snapshot::take(bench.subject)?;
    set(bench, &mut fleet, publisher, count, &mut storm)?;
    let setting = Snapshot::take(bench.subject)?.since(&before);
    let grown = resident_bytes(bench.subject.pid)?.saturating_sub(before_bytes);
    bench.progress(&format!(
        "{count} set, {:.2} µs each",
        setting.us_per(count as u64)
    ));

    let mut bytes = Vec::new();
    wire::subscribe(
        options.version(),
        SUBSCRIBE_ID,
        &["kept/#".to_owned()],
        qos,
        &mut bytes,
    );
    let before = Snapshot::take(bench.subject)?;
    for subscriber in subscribers.clone() {
        fleet.send(subscriber, &bytes);
    }
    let expected = count as u64 * subscribers.len() as u64;
    storm.wait_for(&mut fleet, expected)?;
    let interval = Snapshot::take(bench.subject)?.since(&before);
    bench.outcome.interval(&interval);
    let delivered = storm.retained;
    bench.outcome.figure(
        "CPU per retained delivery",
        "µs",
        Better::Lower,
        interval.us_per(delivered),
    );
    bench.outcome.figure(
        "retained deliveries",
        "/s",
        Better::Higher,
        interval.per_second(delivered),
    );
    bench.outcome.figure(
        "CPU to set one",
        "µs",
        Better::Lower,
        setting.us_per(count as u64),
    );
    let per_message = grown as f64 / count as f64;
    bench.outcome.figure(
        "memory per retained message",
        "bytes",
        Better::Lower,
        per_message,
    );
    if delivered < expected {
        bench
            .outcome
            .faults
            .push(format!("LOST: {} of {expected}", expected - delivered));
    }
    if storm.duplicated > 0 {
        bench
            .outcome
            .faults
            .push(format!("DUPLICATED: {}", storm.duplicated));
    }
    bench
        .outcome
        .faults
        .extend(storm.closed.into_iter().take(1));
    fleet.close();
    Ok(())
}

/// Sets `count` retained messages for another scenario.
pub(super) fn fill(bench: &mut Bench<'_>, count: usize) -> Result<()> {
    let mut fleet = bench.fleet()?;
    let publisher = bench.open(&mut fleet, 1)?.start;
    let mut storm = Storm::new(count, 0..0);
    set(bench, &mut fleet, publisher, count, &mut storm)?;
    fleet.close();
    Ok(())
}

/// Subscribes to what [`fill`] has set; says what is missing.
pub(super) fn missing(bench: &mut Bench<'_>, count: usize) -> Result<Option<String>> {
    let mut fleet = bench.fleet()?;
    let subscriber = bench.open(&mut fleet, 1)?;
    let mut storm = Storm::new(count, subscriber.clone());
    let filter = vec!["kept/#".to_owned()];
    let mut bytes = Vec::new();
    wire::subscribe(
        bench.options.version(),
        SUBSCRIBE_ID,
        &filter,
        1,
        &mut bytes,
    );
    fleet.send(subscriber.start, &bytes);
    storm.wait_for(&mut fleet, count as u64)?;
    fleet.close();
    let missing = count as u64 - storm.retained;
    Ok((missing > 0).then(|| format!("{missing} of {count} retained messages")))
}

/// Publishes `count` retained messages with QoS 1 and waits for every PUBACK.
fn set(
    bench: &Bench<'_>,
    fleet: &mut Fleet,
    publisher: usize,
    count: usize,
    storm: &mut Storm,
) -> Result<()> {
    let payload = bench.options.payload(64);
    let template = Template::new(bench.options.version(), "kept/#######", 1, true, payload);
    let mut bytes = Vec::new();
    let mut sent = 0;
    let mut moved = (0, Instant::now());
    while storm.acknowledged < count {
        bytes.clear();
        while sent < count && sent - storm.acknowledged < WINDOW {
            let stamp = Stamp {
                publisher: 0,
                sequence: sent as u32,
                intended_ns: 0,
            };
            template.push(&mut bytes, (sent % 65_535 + 1) as u16, sent as u32, stamp);
            sent += 1;
        }
        if !bytes.is_empty() {
            fleet.send(publisher, &bytes);
        }
        fleet.turn(Some(Duration::from_millis(20)), storm)?;
        if storm.acknowledged != moved.0 {
            moved = (storm.acknowledged, Instant::now());
        }
        ensure!(
            moved.1.elapsed() < QUIET,
            "{} of {count} acknowledged",
            storm.acknowledged
        );
    }
    Ok(())
}
