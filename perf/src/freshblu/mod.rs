//! The server of devices beside freshblu-server: what a request, a message, a registration and an
//! idle WebSocket cost each of them, under the same client, one after the other on the same core.
//!
//! Both are as they come, but without their limit on requests per minute, and quiet. Ours keeps
//! what it is told on disk before it answers, as freshblu-server does by its journal.

mod load;
mod registry;
mod scenarios;
mod server;

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::brokers::Places;
use crate::host::Host;
use crate::outcome::{Outcome, number};
pub use scenarios::Scenario;
pub use server::Server;

/// What is compared, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Request {
    /// How often each scenario runs against each server.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The scenarios.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "status,whoami,post,websocket,register,idle"
    )]
    pub scenarios: Vec<Scenario>,
    /// The servers.
    #[arg(long, value_delimiter = ',', default_value = "meshring,freshblu")]
    pub servers: Vec<Server>,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Connections that ask, each one request at a time; pairs of WebSockets.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Messages that each pair of WebSockets has on the way.
    #[arg(long, default_value_t = 64)]
    pub window: usize,
    /// Idle WebSockets, each of a device of its own.
    #[arg(long, default_value_t = 500)]
    pub idle: usize,
    /// Devices in the full registry; first a thousandth of them is measured.
    #[arg(long, default_value_t = 1_000_000)]
    pub devices: usize,
}

/// Runs all of it and prints a table of medians.
///
/// # Errors
/// When a server cannot be started, or a run has faults.
pub fn compare(request: &Request, places: &Places) -> Result<()> {
    let mut outcomes = Vec::new();
    for round in 0..request.rounds {
        for &scenario in &request.scenarios {
            for &server in &request.servers {
                let mut running = server::start(server, places)?;
                let subject = (&mut running, server);
                let outcome = scenarios::run(scenario, subject, request, places)?;
                eprintln!("round {} {}", round + 1, outcome.summary());
                for warning in &outcome.warnings {
                    eprintln!("  warning: {warning}");
                }
                if !outcome.faults.is_empty() {
                    bail!("a run has faults: {}", outcome.faults.join("; "));
                }
                outcomes.push(outcome);
            }
        }
    }
    println!("{}\n", Host::read().line());
    print!("{}", table(&outcomes, &request.servers));
    Ok(())
}

/// Medians over the rounds: a row per figure, a column per server.
fn table(outcomes: &[Outcome], servers: &[Server]) -> String {
    let mut rows: Vec<String> = Vec::new();
    let mut values: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for outcome in outcomes {
        for figure in &outcome.figures {
            let name = format!("{}: {}, {}", outcome.scenario, figure.name, figure.unit);
            let row = rows.iter().position(|row| *row == name);
            let row = row.unwrap_or_else(|| {
                rows.push(name);
                rows.len() - 1
            });
            let of_server = values.entry((row, &outcome.broker)).or_default();
            of_server.extend(figure.value);
        }
    }
    let names: Vec<&str> = servers.iter().map(|server| server.name()).collect();
    let mut text = format!(
        "| | {} |\n|---|{}\n",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    for (row, name) in rows.iter().enumerate() {
        let medians = names
            .iter()
            .map(|&server| median(values.get(&(row, server))));
        let cells: Vec<String> = medians
            .map(|value| value.map_or("–".into(), number))
            .collect();
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

fn median(values: Option<&Vec<f64>>) -> Option<f64> {
    let mut sorted = values?.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Better;

    #[test]
    fn the_table_has_medians_of_each_server() {
        let run = |server: &str, value: f64| {
            let mut outcome = Outcome::new("whoami", server);
            outcome.figure("CPU", "µs", Better::Lower, value);
            outcome
        };
        let outcomes = [
            run("meshring", 3.0),
            run("meshring", 1.0),
            run("meshring", 2.0),
            run("freshblu", 60_000.0),
        ];
        let text = table(&outcomes, &[Server::Meshring, Server::Freshblu]);
        let row = text.lines().nth(2).unwrap();
        assert!(row.starts_with("| whoami: CPU, µs | 2"), "{row}");
        assert_eq!(text.lines().count(), 3);
    }
}
