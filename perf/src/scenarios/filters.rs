//! What subscriptions cost: memory per filter, and CPU per message while there are many.

use anyhow::Result;

use super::Bench;
use super::messages::Shape;
use crate::fleet::Fleet;
use crate::ledger::Order;
use crate::measure::Snapshot;
use crate::outcome::Better;
use crate::procfs::resident_bytes;
use crate::traffic::{Measurement, Pace, Streams};
use crate::wire::numbered;

/// Clients that hold the filters.
const HOLDERS: usize = 100;
/// Clients that hold them where their number grows from 10: always the same, so that batches to a
/// receiver are as large with few filters as with many.
const SWEEP_HOLDERS: usize = 10;
/// Publishers of the messages that match them.
const PUBLISHERS: usize = 50;

/// 100,000 filters with a wildcard: bytes per filter, CPU per message.
pub(super) fn filters(bench: &mut Bench<'_>) -> Result<()> {
    let count = bench.options.count.unwrap_or(100_000).max(1);
    bench.outcome.parameter("filters", count);
    let mut fleet = bench.fleet()?;
    let holders = bench.open(&mut fleet, HOLDERS.min(count))?;
    let publishers = bench.open(
        &mut fleet,
        bench.options.publishers.unwrap_or(PUBLISHERS).max(1),
    )?;
    let before_bytes = resident_bytes(bench.subject.pid)?;
    let before = Snapshot::take(bench.subject)?;
    hold(&mut fleet, holders.clone(), "plant/#######/+", 0..count)?;
    let subscribed = Snapshot::take(bench.subject)?.since(&before);
    let grown = resident_bytes(bench.subject.pid)?.saturating_sub(before_bytes);
    bench.progress(&format!(
        "{count} filters, {} bytes each",
        grown / count as u64
    ));
    let (measurement, pace) = publish(
        bench,
        &mut fleet,
        publishers,
        ("plant/#######/value", HOLDERS),
        count,
    )?;
    bench.outcome.figure(
        "memory per filter",
        "bytes",
        Better::Lower,
        grown as f64 / count as f64,
    );
    bench.outcome.measurement(&measurement, pace);
    bench.outcome.figure(
        "CPU per SUBSCRIBE filter",
        "µs",
        Better::Lower,
        subscribed.us_per(count as u64),
    );
    fleet.close();
    Ok(())
}

/// Exact filters from 10 to 1,000,000: CPU per message at each number.
pub(super) fn subscriptions(bench: &mut Bench<'_>) -> Result<()> {
    let most = bench.options.count.unwrap_or(1_000_000).max(10);
    let mut fleet = bench.fleet()?;
    let holders = bench.open(&mut fleet, SWEEP_HOLDERS)?;
    let publishers = bench.open(
        &mut fleet,
        bench.options.publishers.unwrap_or(PUBLISHERS).max(1),
    )?;
    let mut costs = Vec::new();
    let mut held = 0;
    let mut step = 10;
    while held < most {
        let count = step.min(most);
        hold(
            &mut fleet,
            holders.clone(),
            "meter/#######/value",
            held..count,
        )?;
        held = count;
        step *= 10;
        let (measurement, _) = publish(
            bench,
            &mut fleet,
            publishers.clone(),
            ("meter/#######/value", SWEEP_HOLDERS),
            count,
        )?;
        let cost = measurement.interval.us_per(measurement.messages());
        bench.progress(&format!("{count} subscriptions, {cost:.2} µs per message"));
        bench.outcome.interval(&measurement.interval);
        bench.outcome.faults.extend(measurement.faults);
        bench.outcome.figure(
            &format!("CPU per message at {count}"),
            "µs",
            Better::Lower,
            cost,
        );
        costs.push(cost);
    }
    if let (Some(first), Some(last)) = (costs.first(), costs.last()) {
        bench
            .outcome
            .figure("cost at most / at fewest", "×", Better::Lower, last / first);
    }
    fleet.close();
    Ok(())
}

/// Spreads the filters with `numbers` over `holders`.
fn hold(
    fleet: &mut Fleet,
    holders: std::ops::Range<usize>,
    pattern: &str,
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    let mut plans: Vec<(usize, Vec<String>)> = holders.map(|client| (client, Vec::new())).collect();
    let share = plans.len();
    for number in numbers {
        plans[number % share]
            .1
            .push(numbered(pattern, number as u32));
    }
    plans.retain(|(_, filters)| !filters.is_empty());
    fleet.subscribe(&plans, 0)
}

/// Messages that each match one of `count` filters.
fn publish(
    bench: &mut Bench<'_>,
    fleet: &mut Fleet,
    publishers: std::ops::Range<usize>,
    (pattern, holders): (&str, usize),
    count: usize,
) -> Result<(Measurement, Pace)> {
    let shape = Shape {
        first_publisher: publishers.start,
        topics: vec![pattern.to_owned(); publishers.len()],
        numbers: count as u32,
        qos: bench.options.qos.unwrap_or(0),
        copies: 1,
        streams: Streams::ByPublisher,
        order: Order::Any,
        payload: bench.options.payload(64),
        pace: bench.pace(50, None),
    };
    bench.describe(&shape, holders, 0);
    Ok((bench.flow(fleet, &shape)?, shape.pace))
}
