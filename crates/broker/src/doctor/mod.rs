//! `meshring doctor`: looks at the host, and at what the configuration asks of it, and says what
//! stands in the way, with the remedy.
//!
//! | file | noun |
//! |---|---|
//! | `host.rs` | the host, below a root that tests replace |
//! | `plan.rs` | what the broker is to do, as far as the host matters |
//! | `finding.rs` | what a check comes to |
//! | `limits.rs`, `network.rs`, `machine.rs`, `disk.rs`, `exposure.rs`, `operators.rs` | the checks |
//!
//! Nothing is changed, and nothing is written but one file that is removed again.

mod disk;
mod exposure;
mod finding;
mod host;
mod limits;
mod machine;
mod network;
mod operators;
mod plan;

use crate::arguments::ServeArguments;
use crate::output;
use clap::Args;
use finding::{Severity, Verdict};
use host::{Host, Process};
pub use plan::Plan;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code when something is wrong: as of other checks that have found damage.
const FOUND: u8 = 3;
/// Descriptors of a shard beside its connections: rings, files, wake-ups, listeners.
const SHARD_DESCRIPTORS: u64 = 32;

/// Below the flags in its `--help`.
pub const DOCTOR_NOTES: &str = "\
Takes the flags, variables and configuration of `meshring serve`, and says what
the broker would meet. The limits are those of a broker that runs here, if there
is one; else those of the shell that doctor is run from. Nothing is changed. The
time of a sync is measured with a small file in the data directory.

Exit codes:
  0  nothing, or notices alone    1  could not look    2  wrong usage
  3  warnings or errors

Examples:
  meshring doctor
  meshring doctor --connections 200000 --verbose
  meshring doctor --json | jq '.findings[].check'";

/// The command line of `meshring doctor`.
#[derive(Args, Debug)]
pub struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Also say what is well, and what could not be found out
    #[arg(long, short)]
    verbose: bool,

    /// How many connections the broker is to hold
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    connections: u64,

    /// Read /proc and /sys below this directory.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,

    /// What the broker is started with.
    #[command(flatten)]
    serve: ServeArguments,
}

/// All that a check looks at.
struct Case {
    host: Host,
    plan: Plan,
    process: Process,
}

impl Case {
    /// The kernel's version.
    fn kernel(&self) -> Option<(u64, u64)> {
        let text = self.host.text("/proc/sys/kernel/osrelease")?;
        let mut numbers = text.split(|one: char| !one.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// A check: its name, and what it does.
type Check = (&'static str, fn(&Case) -> Verdict);

const CHECKS: &[Check] = &[
    ("open-files", limits::open_files),
    ("locked-memory", limits::locked_memory),
    ("io-uring", limits::io_uring),
    ("kernel", machine::kernel_age),
    ("cpu-quota", limits::cpu_quota),
    ("memory-limit", limits::memory_limit),
    ("shards", limits::shards_and_cpus),
    ("accept-queue", network::accept_queue),
    ("syn-queue", network::syn_queue),
    ("local-ports", network::local_ports),
    ("conntrack", network::tracked_connections),
    ("tcp-memory", network::tcp_memory),
    ("tcp-buffers", network::tcp_buffers),
    ("busy-polling", network::busy_polling),
    ("receive-steering", network::receive_steering),
    ("governor", machine::governor),
    ("smt", machine::siblings),
    ("isolation", machine::isolation),
    ("interrupts", machine::interrupts),
    ("huge-pages", machine::huge_pages),
    ("swap", machine::swap),
    ("numa", machine::nodes),
    ("clock", machine::clock),
    ("time", machine::time_is_set),
    ("file-system", disk::file_system),
    ("free-space", disk::free_space),
    ("data-owner", disk::ownership),
    ("sync", disk::sync_latency),
    ("pepper", exposure::pepper),
    ("anonymous", exposure::anonymous),
    ("plain-text", exposure::plain_text),
    ("admin", operators::exposed),
    ("admin-token", operators::token),
    ("ports", operators::ports),
];

/// Looks, and prints what it has found. Errs if the configuration makes no sense.
pub fn run(arguments: DoctorArguments) -> anyhow::Result<ExitCode> {
    let host = Host::new(&arguments.root);
    let plan = Plan::make(&arguments.serve, arguments.connections, &host)?;
    let process = host.process();
    let case = Case {
        host,
        plan,
        process,
    };
    let verdicts: Vec<(&str, Verdict)> = CHECKS
        .iter()
        .map(|(name, check)| (*name, check(&case)))
        .collect();
    if arguments.json {
        output::line(format_args!("{:#}", json_of(&verdicts)))?;
    } else {
        output::print(&text_of(&case, &verdicts, arguments.verbose))?;
    }
    let is_bad = verdicts.iter().any(|(_, verdict)| {
        matches!(verdict, Verdict::Found { severity, .. } if *severity > Severity::Notice)
    });
    Ok(if is_bad {
        ExitCode::from(FOUND)
    } else {
        ExitCode::SUCCESS
    })
}

fn json_of(verdicts: &[(&str, Verdict)]) -> serde_json::Value {
    let (mut findings, mut fine, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (check, verdict) in verdicts {
        match verdict {
            Verdict::Found {
                severity,
                what,
                remedy,
            } => findings.push(json!({
                "check": check, "severity": severity.name(), "what": what, "remedy": remedy,
            })),
            Verdict::Fine(what) => fine.push(json!({ "check": check, "what": what })),
            Verdict::Unknown(why) => unknown.push(json!({ "check": check, "why": why })),
        }
    }
    json!({ "findings": findings, "fine": fine, "unknown": unknown })
}

/// The worst first.
fn text_of(case: &Case, verdicts: &[(&str, Verdict)], is_verbose: bool) -> String {
    let plan = &case.plan;
    let mut text = format!(
        "{} shards, {} connections, as {}\n",
        plan.shards,
        plan.connections,
        case.process.name()
    );
    let mut found = 0;
    for wanted in [Severity::Error, Severity::Warning, Severity::Notice] {
        for (check, verdict) in verdicts {
            match verdict {
                Verdict::Found {
                    severity,
                    what,
                    remedy,
                } if *severity == wanted => {
                    text += &format!("{}: {check}: {what}\n", severity.name());
                    text += &format!("    remedy: {remedy}\n");
                    found += 1;
                }
                _ => {}
            }
        }
    }
    let mut fine = 0;
    for (check, verdict) in verdicts {
        match verdict {
            Verdict::Fine(what) => {
                fine += 1;
                if is_verbose {
                    text += &format!("fine: {check}: {what}\n");
                }
            }
            Verdict::Unknown(why) if is_verbose => text += &format!("unknown: {check}: {why}\n"),
            _ => {}
        }
    }
    let all = verdicts.len();
    text + &format!("{all} checks: {found} found something, {fine} are fine\n")
}

/// So many bytes, for people.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if count >> shift > 0 {
            return format!("{:.1} {unit}", count as f64 / f64::from(1_u32 << shift));
        }
    }
    format!("{count} bytes")
}
