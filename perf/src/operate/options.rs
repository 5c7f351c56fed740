//! What `perf operate` may be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::own::STEPS;
use super::steps::Given;

/// Choices for one run.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Clients that only ping and hear something now and then.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub idle: u32,
    /// Clients that publish and subscribe.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(20..=50_000))]
    pub active: u32,
    /// Messages a second of all publishers together.
    #[arg(long, default_value_t = 2_000.0)]
    pub rate: f64,
    /// Retained messages that are written once and must stay.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub retained: u32,
    /// Clients a second that begin to connect, at first.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub arrivals: u32,
    /// Seconds that a client waits at most before it tries again to connect; 1 s at first.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=3_600))]
    pub backoff_max: u16,
    /// Seconds of load before each step, and after it.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Seconds that it may take until all are back, or all is delivered.
    #[arg(long, default_value_t = 120.0)]
    pub patience: f64,
    /// The clients' keep-alive, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(2..))]
    pub keep_alive: u16,
    /// A broker that runs already; needs --step.
    #[arg(long, requires = "step")]
    pub addr: Option<SocketAddr>,
    /// A step: what the shell is to run, and what it is: steady, reload, log, drain, undrain, restart,
    /// upgrade, or one of these with a hyphen and more; may be repeated.
    #[arg(long, value_name = "NAME=COMMAND", requires = "addr")]
    pub step: Vec<Given>,
    /// The clients' user name.
    #[arg(long, requires = "password")]
    pub username: Option<String>,
    /// And password.
    #[arg(long, requires = "username")]
    pub password: Option<String>,
    /// The program, without --addr.
    #[arg(long, default_value = "target/release/meshring")]
    pub meshring: PathBuf,
    /// Which steps, without --addr.
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with = "addr",
        value_parser = clap::builder::PossibleValuesParser::new(STEPS),
        default_values = STEPS
    )]
    pub steps: Vec<String>,
    /// The program that takes its place in the upgrade [default: the same].
    #[arg(long)]
    pub upgrade_to: Option<PathBuf>,
    /// Where its data is, in a directory that is removed at the end [default: the system's for
    /// temporary files].
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// How it talks to the kernel.
    #[arg(long, default_value = "auto")]
    pub driver: String,
    /// Its shards.
    #[arg(long, default_value = "auto")]
    pub shards: String,
    /// When something counts as kept.
    #[arg(long, default_value = "commit")]
    pub durability: String,
    /// Clients per second that the drain closes.
    #[arg(long, default_value_t = 1_000)]
    pub drain_rate: u32,
    /// Print the report as JSON on standard output, too.
    #[arg(long)]
    pub json: bool,
}
