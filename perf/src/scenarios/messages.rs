//! Scenarios in which messages flow all the time: ingest, paced, fan-out, pairs, work queue.

use anyhow::Result;

use super::Bench;
use crate::fleet::Fleet;
use crate::ledger::Order;
use crate::outcome::Better;
use crate::traffic::{self, Measurement, Pace, Plan, Streams};
use crate::wire::Template;

/// The part of a [`Plan`] in which scenarios differ.
pub(super) struct Shape {
    pub first_publisher: usize,
    pub topics: Vec<String>,
    pub numbers: u32,
    pub qos: u8,
    pub copies: u64,
    pub streams: Streams,
    pub order: Order,
    pub payload: usize,
    pub pace: Pace,
}

impl Bench<'_> {
    /// The pace that the options ask for, or the scenario's own.
    pub(super) fn pace(&self, window: u32, rate: Option<f64>) -> Pace {
        match self.options.rate().or(rate) {
            Some(rate) => Pace::Open { rate },
            None => Pace::Closed {
                window: self.options.window.unwrap_or(window),
                pause: self.options.pause(),
            },
        }
    }

    /// Runs messages of `shape` and measures them.
    pub(super) fn flow(&self, fleet: &mut Fleet, shape: &Shape) -> Result<Measurement> {
        let version = self.options.version();
        let template =
            |topic: &String| Template::new(version, topic, shape.qos, false, shape.payload);
        let plan = Plan {
            first_publisher: shape.first_publisher,
            templates: shape.topics.iter().map(template).collect(),
            topics: shape.numbers,
            qos: shape.qos,
            copies: shape.copies,
            streams: shape.streams,
            order: shape.order,
            pace: shape.pace,
            warm_up: self.options.warm_up(),
            measured: self.options.measured(),
        };
        traffic::run(fleet, self.subject, &plan)
    }

    /// Notes what was chosen.
    pub(super) fn describe(&mut self, shape: &Shape, subscribers: usize, subscriber_qos: u8) {
        self.outcome.parameter("publishers", shape.topics.len());
        self.outcome.parameter("subscribers", subscribers);
        self.outcome.parameter("QoS", shape.qos);
        self.outcome.parameter("subscriber QoS", subscriber_qos);
        self.outcome.parameter("payload bytes", shape.payload);
        match shape.pace {
            Pace::Closed { window, pause } => {
                self.outcome.parameter("window", window);
                self.outcome.parameter("pause µs", pause.as_micros());
            }
            Pace::Open { rate } => self.outcome.parameter("rate", rate),
        }
    }
}

/// Many publishers, one wildcard subscriber.
pub(super) fn ingest(bench: &mut Bench<'_>, rate: Option<f64>) -> Result<()> {
    let options = bench.options;
    let mut fleet = bench.fleet()?;
    let subscriber = bench.open(&mut fleet, 1)?.start;
    let publishers = bench.open(&mut fleet, options.publishers.unwrap_or(200).max(1))?;
    let qos = options.qos.unwrap_or(1);
    let subscriber_qos = options.subscriber_qos.unwrap_or(qos);
    fleet.subscribe(
        &[(subscriber, vec!["fleet/+/telemetry".to_owned()])],
        subscriber_qos,
    )?;
    let shape = Shape {
        first_publisher: publishers.start,
        topics: publishers
            .map(|index| format!("fleet/{index:05}/telemetry"))
            .collect(),
        numbers: 1,
        qos,
        copies: 1,
        streams: Streams::ByPublisher,
        order: Order::Strict,
        payload: options.payload(64),
        pace: bench.pace(64, rate),
    };
    bench.describe(&shape, 1, subscriber_qos);
    let measurement = bench.flow(&mut fleet, &shape)?;
    bench.outcome.measurement(&measurement, shape.pace);
    fleet.close();
    Ok(())
}

/// One publisher, many subscribers.
pub(super) fn fanout(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut fleet = bench.fleet()?;
    let subscribers = bench.open(&mut fleet, options.subscribers.unwrap_or(500).max(1))?;
    let publishers = bench.open(&mut fleet, options.publishers.unwrap_or(1).max(1))?;
    let qos = options.qos.unwrap_or(0);
    let subscriber_qos = options.subscriber_qos.unwrap_or(qos);
    let filter = vec!["news/all".to_owned()];
    let plans: Vec<_> = subscribers
        .clone()
        .map(|client| (client, filter.clone()))
        .collect();
    fleet.subscribe(&plans, subscriber_qos)?;
    let count = subscribers.len();
    let shape = Shape {
        first_publisher: publishers.start,
        topics: vec!["news/all".to_owned(); publishers.len()],
        numbers: 1,
        qos,
        copies: count as u64,
        streams: Streams::ByReceiver {
            first: subscribers.start,
            count,
        },
        order: Order::Strict,
        payload: options.payload(64),
        pace: bench.pace(10, None),
    };
    anyhow::ensure!(publishers.len() == 1, "fanout has one publisher");
    bench.describe(&shape, count, subscriber_qos);
    let measurement = bench.flow(&mut fleet, &shape)?;
    bench.outcome.measurement(&measurement, shape.pace);
    fleet.close();
    Ok(())
}

/// Each publisher has a subscriber of its own.
pub(super) fn pairs(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut fleet = bench.fleet()?;
    let count = options.publishers.unwrap_or(200).max(1);
    let subscribers = bench.open(&mut fleet, count)?;
    let publishers = bench.open(&mut fleet, count)?;
    let qos = options.qos.unwrap_or(0);
    let subscriber_qos = options.subscriber_qos.unwrap_or(qos);
    let topics: Vec<String> = (0..count)
        .map(|pair| format!("pair/{pair:05}/data"))
        .collect();
    let plans: Vec<_> = subscribers
        .zip(&topics)
        .map(|(client, topic)| (client, vec![topic.clone()]))
        .collect();
    fleet.subscribe(&plans, subscriber_qos)?;
    let shape = Shape {
        first_publisher: publishers.start,
        topics,
        numbers: 1,
        qos,
        copies: 1,
        streams: Streams::ByPublisher,
        order: Order::Strict,
        payload: options.payload(256),
        pace: bench.pace(40, None),
    };
    bench.describe(&shape, count, subscriber_qos);
    let measurement = bench.flow(&mut fleet, &shape)?;
    bench.outcome.measurement(&measurement, shape.pace);
    fleet.close();
    Ok(())
}

/// Work shared out to the members of one shared subscription.
pub(super) fn queue(bench: &mut Bench<'_>) -> Result<()> {
    let options = bench.options;
    let mut fleet = bench.fleet()?;
    let members = bench.open(&mut fleet, options.subscribers.unwrap_or(20).max(1))?;
    let publishers = bench.open(&mut fleet, options.publishers.unwrap_or(20).max(1))?;
    let qos = options.qos.unwrap_or(1);
    let subscriber_qos = options.subscriber_qos.unwrap_or(qos);
    let filter = vec!["$share/workers/jobs/#".to_owned()];
    let plans: Vec<_> = members
        .clone()
        .map(|client| (client, filter.clone()))
        .collect();
    fleet.subscribe(&plans, subscriber_qos)?;
    let shape = Shape {
        first_publisher: publishers.start,
        topics: publishers.map(|index| format!("jobs/{index:05}")).collect(),
        numbers: 1,
        qos,
        copies: 1,
        streams: Streams::ByPublisher,
        order: Order::Any,
        payload: options.payload(64),
        pace: bench.pace(50, None),
    };
    bench.describe(&shape, members.len(), subscriber_qos);
    let measurement = bench.flow(&mut fleet, &shape)?;
    bench.outcome.measurement(&measurement, shape.pace);
    let mean = measurement.totals.delivered as f64 / members.len() as f64;
    let most = members
        .map(|member| measurement.by_client[member])
        .max()
        .unwrap_or(0);
    bench.outcome.figure(
        "busiest member / mean",
        "×",
        Better::Lower,
        most as f64 / mean,
    );
    fleet.close();
    Ok(())
}
