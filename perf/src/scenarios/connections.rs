//! What connections cost: to make, to keep, and to publish from.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Bench;
use super::messages::Shape;
use crate::fleet::Fleet;
use crate::ledger::Order;
use crate::measure::Snapshot;
use crate::outcome::Better;
use crate::procfs::{kernel_slab_bytes, open_files_max, raise_open_files_max, resident_bytes};
use crate::traffic::{Pace, Streams};

/// Files that a process needs besides its connections.
const FILES_RESERVED: u64 = 200;
/// Time for a broker to finish what it does after a burst, before its memory is read.
const SETTLE: Duration = Duration::from_millis(1_500);

impl Bench<'_> {
    /// `wanted` connections, or as many as the limits on open files of both sides allow; says so
    /// if that is fewer.
    fn connections_possible(&mut self, wanted: usize) -> Result<usize> {
        let ours = raise_open_files_max();
        let theirs = open_files_max(self.subject.pid)?;
        let most = ours.min(theirs).saturating_sub(FILES_RESERVED) as usize;
        if wanted > most {
            self.outcome.warnings.push(format!(
                "{most} connections instead of {wanted}: open files are limited to {ours} here \
                 and {theirs} in the broker"
            ));
        }
        ensure!(most > 0, "the limit on open files leaves no connection");
        Ok(wanted.min(most))
    }

    /// Lets the broker come to rest.
    fn settle(&self, fleet: &mut Fleet) -> Result<()> {
        let mut ignore = Ignore;
        let end = std::time::Instant::now() + SETTLE;
        while std::time::Instant::now() < end {
            fleet.turn(Some(Duration::from_millis(100)), &mut ignore)?;
        }
        Ok(())
    }
}

/// Takes whatever comes.
struct Ignore;

impl crate::fleet::Receiver for Ignore {
    fn on_packet(&mut self, _: usize, _: crate::wire::Packet<'_>, _: &mut Vec<u8>) {}
    fn on_closed(&mut self, _: usize, _: &str) {}
}

/// A storm: TCP connect, CONNECT, CONNACK; the connections stay.
pub(super) fn connect(bench: &mut Bench<'_>) -> Result<()> {
    let count = bench.connections_possible(bench.options.count.unwrap_or(10_000).max(1))?;
    let at_once = bench.options.at_once.max(1);
    bench.outcome.parameter("connections", count);
    bench.outcome.parameter("at once", at_once);
    let mut fleet = bench.fleet()?;
    let before = Snapshot::take(bench.subject)?;
    fleet.open(count, at_once)?;
    let interval = Snapshot::take(bench.subject)?.since(&before);
    bench.outcome.interval(&interval);
    let count = count as u64;
    bench.outcome.figure(
        "CPU per connect",
        "µs",
        Better::Lower,
        interval.us_per(count),
    );
    bench
        .outcome
        .figure("connects", "/s", Better::Higher, interval.per_second(count));
    fleet.close();
    Ok(())
}

/// Memory of connections that do nothing, then of one subscription on each.
pub(super) fn idle(bench: &mut Bench<'_>) -> Result<()> {
    let count = bench.connections_possible(bench.options.count.unwrap_or(20_000).max(1))?;
    bench.outcome.parameter("connections", count);
    let mut fleet = bench.fleet()?;
    let pid = bench.subject.pid;
    let (before, slab_before) = (resident_bytes(pid)?, kernel_slab_bytes());
    bench.open(&mut fleet, count)?;
    bench.settle(&mut fleet)?;
    let (connected, slab) = (resident_bytes(pid)?, kernel_slab_bytes());
    let per = |bytes: u64, base: u64| bytes.saturating_sub(base) as f64 / count as f64;
    bench.outcome.figure(
        "memory per idle connection",
        "bytes",
        Better::Lower,
        per(connected, before),
    );
    bench.progress(&format!(
        "{count} connections, {:.0} bytes each",
        per(connected, before)
    ));
    let resting = Snapshot::take(bench.subject)?;
    let plans: Vec<_> = (0..count)
        .map(|i| (i, vec![format!("device/{i:07}/commands")]))
        .collect();
    fleet.subscribe(&plans, 0)?;
    bench.settle(&mut fleet)?;
    let subscribed = resident_bytes(pid)?;
    let interval = Snapshot::take(bench.subject)?.since(&resting);
    bench.outcome.interval(&interval);
    let name = "memory with one subscription";
    bench
        .outcome
        .figure(name, "bytes", Better::Lower, per(subscribed, before));
    if let (Some(slab), Some(slab_before)) = (slab, slab_before) {
        bench.outcome.detail(
            "kernel slab bytes per connection, both ends",
            per(slab, slab_before),
        );
    }
    bench.outcome.detail("resident bytes before", before as f64);
    let open = (0..count).filter(|&client| fleet.is_open(client)).count();
    if open < count {
        bench
            .outcome
            .faults
            .push(format!("CLOSED: {} of {count} connections", count - open));
    }
    fleet.close();
    Ok(())
}

/// One total rate from 100, 1,000 and 10,000 publishers: what a connection adds per message.
pub(super) fn connections(bench: &mut Bench<'_>) -> Result<()> {
    let most = bench.connections_possible(bench.options.count.unwrap_or(10_000).max(100))?;
    let rate = bench.options.rate().unwrap_or(10_000.0);
    let mut fleet = bench.fleet()?;
    let subscriber = bench.open(&mut fleet, 1)?.start;
    fleet.subscribe(&[(subscriber, vec!["fleet/+/telemetry".to_owned()])], 1)?;
    let first_publisher = fleet.len();
    let mut costs = Vec::new();
    let mut step = 100;
    while fleet.len() - first_publisher < most {
        let count = step.min(most);
        let open = fleet.len() - first_publisher;
        bench.open(&mut fleet, count - open)?;
        step *= 10;
        let shape = Shape {
            first_publisher,
            topics: (0..count)
                .map(|index| format!("fleet/{index:05}/telemetry"))
                .collect(),
            numbers: 1,
            qos: bench.options.qos.unwrap_or(1),
            copies: 1,
            streams: Streams::ByPublisher,
            order: Order::Strict,
            payload: bench.options.payload(64),
            pace: Pace::Open { rate },
        };
        bench.describe(&shape, 1, 1);
        let measurement = bench.flow(&mut fleet, &shape)?;
        let cost = measurement.interval.us_per(measurement.messages());
        bench.progress(&format!("{count} publishers, {cost:.2} µs per message"));
        bench.outcome.interval(&measurement.interval);
        bench.outcome.faults.extend(measurement.faults);
        bench.outcome.figure(
            &format!("CPU per message from {count}"),
            "µs",
            Better::Lower,
            cost,
        );
        costs.push(cost);
    }
    if let (Some(first), Some(last)) = (costs.first(), costs.last()) {
        bench.outcome.figure(
            "cost from most / from fewest",
            "×",
            Better::Lower,
            last / first,
        );
    }
    fleet.close();
    Ok(())
}
