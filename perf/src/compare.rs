//! Runs scenarios against several brokers in turn, and saves what came out.
//!
//! Every run has a broker of its own, started fresh. Rounds are interleaved – each scenario runs
//! against one broker after the other before the next round – and the order changes with the
//! round, so that a slow minute of the host falls on all alike.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::brokers::{Kind, Places};
use crate::comparison::Comparison;
use crate::host::Host;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::scenarios::{self, Scenario};
use crate::{html, markdown};

/// Rest between two runs, for connections to end and caches to cool for all alike.
const REST: Duration = Duration::from_millis(500);

/// What to compare.
#[derive(Clone, Debug)]
pub struct Request {
    /// How often each scenario runs against each broker.
    pub rounds: usize,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// The brokers, the one under test first.
    pub brokers: Vec<Kind>,
    /// Where they are.
    pub places: Places,
    /// What runs are told.
    pub options: Options,
}

/// Runs it all. A run that fails is a fault in the comparison, and the others go on.
///
/// # Errors
/// When no broker is installed or nothing is to be run.
pub fn compare(request: &Request) -> Result<Comparison> {
    let (installed, missing): (Vec<Kind>, Vec<Kind>) = request
        .brokers
        .iter()
        .partition(|&&kind| request.places.find(kind).is_some());
    ensure!(
        !installed.is_empty(),
        "none of the brokers is installed: see perf/README.md"
    );
    ensure!(
        request.rounds > 0 && !request.scenarios.is_empty(),
        "nothing to run"
    );
    let missing: Vec<String> = missing
        .iter()
        .map(|kind| format!("{} is not installed", kind.name()))
        .collect();
    for text in &missing {
        eprintln!("*** {text}: it is not in the tables");
    }
    let mut comparison = Comparison {
        host: Host::read(),
        rounds: request.rounds,
        brokers: installed
            .iter()
            .map(|kind| kind.name().to_owned())
            .collect(),
        scenarios: request
            .scenarios
            .iter()
            .map(|scenario| scenario.name().to_owned())
            .collect(),
        missing,
        runs: Vec::new(),
    };
    eprintln!("{}", comparison.host.line());
    let total = request.rounds * request.scenarios.len() * installed.len();
    let began = Instant::now();
    for round in 0..request.rounds {
        for &scenario in &request.scenarios {
            for kind in rotated(&installed, round) {
                let outcome = run_one(request, scenario, kind);
                comparison.runs.push(outcome);
                report(&comparison, total, round, began);
                std::thread::sleep(REST);
            }
        }
    }
    Ok(comparison)
}

/// One line per finished run.
fn report(comparison: &Comparison, total: usize, round: usize, began: Instant) {
    let Some(outcome) = comparison.runs.last() else {
        return;
    };
    let done = comparison.runs.len();
    let left = began.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
    let (round, summary) = (round + 1, outcome.summary());
    eprintln!("[{done}/{total}, about {left:.0} s left] round {round} {summary}");
    for warning in &outcome.warnings {
        eprintln!("    warning: {warning}");
    }
    for fault in &outcome.faults {
        eprintln!("    *** FAULT *** {fault}");
    }
}

/// `items`, beginning with another one each round.
fn rotated<T: Copy>(items: &[T], round: usize) -> Vec<T> {
    let mut items = items.to_vec();
    let by = round % items.len().max(1);
    items.rotate_left(by);
    items
}

fn run_one(request: &Request, scenario: Scenario, kind: Kind) -> Outcome {
    let (places, options) = (&request.places, &request.options);
    scenarios::start_and_run(scenario, kind, places, options).unwrap_or_else(
        |error: anyhow::Error| {
            let mut outcome = Outcome::new(scenario.name(), kind.name());
            outcome.faults.push(format!("FAILED: {error:#}"));
            outcome
        },
    )
}

/// Writes `comparison` as JSON, Markdown and HTML into `directory`; returns the paths.
///
/// # Errors
/// When the directory cannot be written.
pub fn save(comparison: &Comparison, directory: &Path) -> Result<[PathBuf; 3]> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let began = comparison
        .host
        .began
        .replace([':', '-'], "")
        .replace(' ', "-");
    let stem = format!("compare-{began}-{}", comparison.host.commit);
    let write = |extension: &str, text: &str| {
        let path = directory.join(format!("{stem}.{extension}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    Ok([
        write("json", &serde_json::to_string_pretty(comparison)?)?,
        write("md", &markdown::render(comparison))?,
        write("html", &html::render(comparison))?,
    ])
}

/// Reads a saved comparison.
///
/// # Errors
/// When the file is not there or is no comparison.
pub fn read(path: &Path) -> Result<Comparison> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no comparison", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::example;

    #[test]
    fn every_broker_begins_a_round() {
        assert_eq!(rotated(&[1, 2, 3], 0), [1, 2, 3]);
        assert_eq!(rotated(&[1, 2, 3], 1), [2, 3, 1]);
        assert_eq!(rotated(&[1, 2, 3], 3), [1, 2, 3]);
        assert!(rotated::<u8>(&[], 5).is_empty());
    }

    #[test]
    fn what_is_saved_can_be_read_again() {
        let directory = std::env::temp_dir().join(format!("perf-save-{}", std::process::id()));
        let paths = save(&example(), &directory).unwrap();
        let read = read(&paths[0]).unwrap();
        let sizes: Vec<u64> = paths
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .collect();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(markdown::render(&read), markdown::render(&example()));
        assert!(sizes.iter().all(|&size| size > 100), "{sizes:?}");
    }
}
