//! The scenarios. Each connects a fleet of its own to a running broker and returns an
//! [`Outcome`]; perf/README.md says what each measures and why.

mod connections;
mod durable;
mod filters;
mod messages;
mod recovery;
mod retained;

use std::ops::Range;

use anyhow::Result;

use crate::brokers::{self, Kind, Places};
use crate::fleet::Fleet;
use crate::measure::Subject;
use crate::options::Options;
use crate::outcome::Outcome;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// 200 publishers with QoS 1 and 64 bytes to one wildcard subscriber, as fast as it goes.
    Ingest,
    /// As ingest, at 10,000 messages a second with one write per message.
    Paced,
    /// One publisher with QoS 0 and 64 bytes to 500 subscribers.
    Fanout,
    /// 200 pairs of publisher and subscriber with QoS 0 and 256 bytes.
    Pairs,
    /// 20 publishers with QoS 1 to one shared subscription with 20 members.
    Queue,
    /// 10,000 retained messages and 20 clients that subscribe to all of them.
    Retained,
    /// A storm of 10,000 connects.
    Connect,
    /// 20,000 idle connections, then one subscription on each.
    Idle,
    /// 100,000 wildcard filters, and messages that each match one.
    Filters,
    /// Messages at 10 to 1,000,000 subscriptions, each matching one.
    Subscriptions,
    /// Messages at one total rate from 100 to 10,000 publishers.
    Connections,
    /// Messages for durable sessions that are away, from 1 to 1,000 publishers; then SIGKILL.
    Durable,
    /// Starts with 1,000,000 retained messages or 100,000 durable sessions on disk.
    Recovery,
}

impl Scenario {
    /// The name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Ingest => "ingest",
            Scenario::Paced => "paced",
            Scenario::Fanout => "fanout",
            Scenario::Pairs => "pairs",
            Scenario::Queue => "queue",
            Scenario::Retained => "retained",
            Scenario::Connect => "connect",
            Scenario::Idle => "idle",
            Scenario::Filters => "filters",
            Scenario::Subscriptions => "subscriptions",
            Scenario::Connections => "connections",
            Scenario::Durable => "durable",
            Scenario::Recovery => "recovery",
        }
    }
}

/// One scenario against one broker.
struct Bench<'a> {
    subject: &'a Subject,
    options: &'a Options,
    outcome: Outcome,
}

/// Starts a broker of `kind` and runs `scenario` against it.
///
/// # Errors
/// When it cannot be started, and as [`run`].
pub fn start_and_run(
    scenario: Scenario,
    kind: Kind,
    places: &Places,
    options: &Options,
) -> Result<Outcome> {
    match scenario {
        Scenario::Durable => durable::durable(kind, places, options),
        Scenario::Recovery => recovery::recovery(kind, places, options),
        _ => {
            let running = brokers::start(kind, places, options.version())?;
            run(scenario, &running.subject, options)
        }
    }
}

/// Runs `scenario` against `subject`.
///
/// # Errors
/// When the broker refuses clients, stops answering while they are set up, or ends. Loss is a
/// fault in the outcome instead.
pub fn run(scenario: Scenario, subject: &Subject, options: &Options) -> Result<Outcome> {
    let mut outcome = Outcome::new(scenario.name(), &subject.name);
    outcome.parameter("MQTT", if options.mqtt == 5 { "5.0" } else { "3.1.1" });
    let mut bench = Bench {
        subject,
        options,
        outcome,
    };
    match scenario {
        Scenario::Ingest => messages::ingest(&mut bench, None)?,
        Scenario::Paced => messages::ingest(&mut bench, Some(10_000.0))?,
        Scenario::Fanout => messages::fanout(&mut bench)?,
        Scenario::Pairs => messages::pairs(&mut bench)?,
        Scenario::Queue => messages::queue(&mut bench)?,
        Scenario::Retained => retained::retained(&mut bench)?,
        Scenario::Connect => connections::connect(&mut bench)?,
        Scenario::Idle => connections::idle(&mut bench)?,
        Scenario::Filters => filters::filters(&mut bench)?,
        Scenario::Subscriptions => filters::subscriptions(&mut bench)?,
        Scenario::Connections => connections::connections(&mut bench)?,
        Scenario::Durable | Scenario::Recovery => {
            anyhow::bail!(
                "{} starts and kills its brokers: leave out --addr",
                scenario.name()
            )
        }
    }
    Ok(bench.outcome)
}

impl Bench<'_> {
    /// A fleet without clients.
    fn fleet(&self) -> Result<Fleet> {
        Fleet::new(self.subject.address, self.options.version())
    }

    /// Connects `count` clients; returns their indices.
    fn open(&self, fleet: &mut Fleet, count: usize) -> Result<Range<usize>> {
        let first = fleet.open(count, self.options.at_once.max(1))?;
        Ok(first..first + count)
    }

    /// Tells the person who waits what is going on.
    fn progress(&self, what: &str) {
        eprintln!("  {} {}: {what}", self.outcome.scenario, self.subject.name);
    }
}
