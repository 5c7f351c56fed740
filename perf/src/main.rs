//! `perf`: one scenario against one broker, or all against all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use perf::brokers::{self, Kind, Places};
use perf::compare::{self, Request};
use perf::comparison::Comparison;
use perf::freshblu;
use perf::markdown;
use perf::measure::Subject;
use perf::operate;
use perf::options::Options;
use perf::outcome::Outcome;
use perf::procfs;
use perf::scenarios::{self, Scenario};

#[derive(Parser)]
#[command(about = "Loads a broker and measures it", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// 200 publishers with QoS 1 and 64 bytes to one wildcard subscriber, as fast as it goes.
    Ingest(Run),
    /// As ingest, at 10,000 messages a second with one write per message.
    Paced(Run),
    /// One publisher with QoS 0 and 64 bytes to 500 subscribers.
    Fanout(Run),
    /// 200 pairs of publisher and subscriber with QoS 0 and 256 bytes.
    Pairs(Run),
    /// 20 publishers with QoS 1 to one shared subscription with 20 members.
    Queue(Run),
    /// 10,000 retained messages and 20 clients that subscribe to all of them.
    Retained(Run),
    /// A storm of 10,000 connects.
    Connect(Run),
    /// 20,000 idle connections, then one subscription on each.
    Idle(Run),
    /// 100,000 wildcard filters, and messages that each match one.
    Filters(Run),
    /// Messages at 10 to 1,000,000 subscriptions, each matching one.
    Subscriptions(Run),
    /// Messages at one total rate from 100 to 10,000 publishers.
    Connections(Run),
    /// Messages for durable sessions that are away, from 1 to 1,000 publishers; then SIGKILL.
    Durable(Run),
    /// Starts with 1,000,000 retained messages or 100,000 durable sessions on disk.
    Recovery(Run),
    /// Run scenarios against several brokers in turn, and save tables and plots
    Compare(Compare),
    /// The server of devices beside freshblu-server: what requests, messages, registrations and idle
    /// WebSockets cost
    Freshblu(Freshblu),
    /// 20,000 idle and 1,000 active clients through a reload, a change of the log level, a drain and an
    /// upgrade: whether anything is lost that was promised.
    Operate(Box<operate::Options>),
    /// Make the tables and plots of a saved comparison again
    Report {
        /// The JSON file that `compare` saved.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// A broker that runs already; needs --pid.
    #[arg(long, requires = "pid")]
    addr: Option<SocketAddr>,
    /// Its process.
    #[arg(long, requires = "addr")]
    pid: Option<u32>,
    /// The broker to start, without --addr.
    #[arg(long, default_value = "meshring")]
    broker: Kind,
    /// Print the outcome as JSON on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: PlaceOptions,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Compare {
    /// How often each scenario runs against each broker.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The scenarios.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ingest,fanout,pairs,paced,queue,retained,connect,idle,filters"
    )]
    scenarios: Vec<Scenario>,
    /// The brokers, the one under test first.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "meshring,mosquitto,rumqttd,rmqtt"
    )]
    brokers: Vec<Kind>,
    /// Where JSON, Markdown and HTML are saved.
    #[arg(long, default_value = "perf-results")]
    results: PathBuf,
    #[command(flatten)]
    places: PlaceOptions,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Freshblu {
    #[command(flatten)]
    request: freshblu::Request,
    #[command(flatten)]
    places: PlaceOptions,
}

#[derive(Args)]
struct PlaceOptions {
    /// Our own program.
    #[arg(long, default_value = "target/release/meshring")]
    meshring: PathBuf,
    /// One more argument for it; may be repeated.
    #[arg(long = "meshring-argument", allow_hyphen_values = true)]
    meshring_arguments: Vec<String>,
    /// Where `perf/peers.sh` installed the peers.
    #[arg(long, default_value = "target/peers")]
    peers: PathBuf,
    /// The core for the broker.
    #[arg(long, default_value_t = 0)]
    broker_core: usize,
    /// The core for the generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Where brokers keep what they keep, each in a new directory: on the disk to be measured
    /// [default: the system's directory for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave both to the scheduler.
    #[arg(long)]
    unpinned: bool,
}

impl PlaceOptions {
    /// Cores are given only where both exist.
    fn places(self) -> Places {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pinned = !self.unpinned && self.broker_core.max(self.generator_core) < cores;
        Places {
            meshring: self.meshring,
            peers: self.peers,
            broker_core: pinned.then_some(self.broker_core),
            generator_core: pinned.then_some(self.generator_core),
            meshring_arguments: self.meshring_arguments,
            data: self.data,
        }
    }
}

fn main() -> Result<()> {
    procfs::raise_open_files_max();
    match CommandLine::parse().command {
        Command::Ingest(run) => run_one(Scenario::Ingest, run),
        Command::Paced(run) => run_one(Scenario::Paced, run),
        Command::Fanout(run) => run_one(Scenario::Fanout, run),
        Command::Pairs(run) => run_one(Scenario::Pairs, run),
        Command::Queue(run) => run_one(Scenario::Queue, run),
        Command::Retained(run) => run_one(Scenario::Retained, run),
        Command::Connect(run) => run_one(Scenario::Connect, run),
        Command::Idle(run) => run_one(Scenario::Idle, run),
        Command::Filters(run) => run_one(Scenario::Filters, run),
        Command::Subscriptions(run) => run_one(Scenario::Subscriptions, run),
        Command::Connections(run) => run_one(Scenario::Connections, run),
        Command::Durable(run) => run_one(Scenario::Durable, run),
        Command::Recovery(run) => run_one(Scenario::Recovery, run),
        Command::Compare(request) => run_all(request),
        Command::Freshblu(Freshblu { request, places }) => {
            freshblu::compare(&request, &places.places())
        }
        Command::Operate(options) => run_operation(&options),
        Command::Report { file } => {
            let directory = file.parent().map(Path::to_owned).unwrap_or_default();
            show(&compare::read(&file)?, &directory)
        }
    }
}

fn run_one(scenario: Scenario, run: Run) -> Result<()> {
    let places = run.places.places();
    let outcome = match (run.addr, run.pid) {
        (Some(address), Some(pid)) => {
            brokers::pin(places.generator_core);
            let name = format!("pid {pid}");
            // Somebody else pinned it, or did not; its core is known if it has just one.
            let core = procfs::cores_allowed(pid).and_then(|cores| cores.parse().ok());
            let subject = Subject {
                name,
                address,
                pid,
                core,
            };
            scenarios::run(scenario, &subject, &run.options)?
        }
        _ => scenarios::start_and_run(scenario, run.broker, &places, &run.options)?,
    };
    print(&outcome, run.json)?;
    if !outcome.faults.is_empty() {
        bail!("the run has faults: its figures are not to be used");
    }
    Ok(())
}

fn run_operation(options: &operate::Options) -> Result<()> {
    let report = operate::run(options)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    eprint!("{}", report.table());
    if report.faults > 0 {
        bail!("{} promises were broken", report.faults);
    }
    Ok(())
}

fn run_all(request: Compare) -> Result<()> {
    let comparison = compare::compare(&Request {
        rounds: request.rounds,
        scenarios: request.scenarios,
        brokers: request.brokers,
        places: request.places.places(),
        options: request.options,
    })?;
    show(&comparison, &request.results)
}

fn show(comparison: &Comparison, directory: &Path) -> Result<()> {
    let saved = compare::save(comparison, directory)?;
    println!("{}", markdown::render(comparison));
    for path in saved {
        eprintln!("saved {}", path.display());
    }
    Ok(())
}

fn print(outcome: &Outcome, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(outcome)?);
    }
    eprintln!("{}", outcome.summary());
    for warning in &outcome.warnings {
        eprintln!("  warning: {warning}");
    }
    for fault in &outcome.faults {
        eprintln!("  *** FAULT *** {fault}");
    }
    Ok(())
}
