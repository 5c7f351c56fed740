//! A comparison as Markdown tables.

use std::fmt::Write;

use crate::comparison::{Cell, Comparison, Row, times_better};
use crate::outcome::number;

/// Renders the whole comparison.
pub fn render(comparison: &Comparison) -> String {
    let mut text = String::from("# Comparison of brokers\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}\n", comparison.host.line());
    let _ = writeln!(
        text,
        "Medians of {} interleaved rounds. `×` after a peer's figure says how many times better \
         {} is (below 1: worse). In brackets the lowest and highest of the rounds. † every run \
         had faults, see below.{}\n",
        comparison.rounds,
        comparison
            .brokers
            .first()
            .map_or("the first", String::as_str),
        noise(comparison)
    );
    let rows = comparison.rows();
    for scenario in &comparison.scenarios {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| row.scenario == *scenario)
            .collect();
        if !of.is_empty() {
            table(&mut text, comparison, scenario, &of);
        }
    }
    let remarks = comparison.remarks();
    if !remarks.is_empty() {
        text.push_str("## Remarks\n\n");
        for remark in remarks {
            let _ = writeln!(text, "* {remark}");
        }
    }
    text
}

/// What to think of the host's quiet.
pub fn noise(comparison: &Comparison) -> String {
    match comparison.noise() {
        Some(noise) => format!(
            " Others used at most {:.0} % of the broker's core during a run.",
            noise * 100.0
        ),
        None => " How quiet the host was is not known.".to_owned(),
    }
}

fn table(text: &mut String, comparison: &Comparison, scenario: &str, rows: &[&Row]) {
    let _ = writeln!(text, "## {scenario}\n");
    if let Some(run) = comparison.runs.iter().find(|run| run.scenario == scenario) {
        let said: Vec<String> = run
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let _ = writeln!(text, "{}\n", said.join(", "));
    }
    let _ = writeln!(text, "| figure | {} |", comparison.brokers.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(comparison.brokers.len()));
    for row in rows {
        let ours = row
            .cells
            .first()
            .filter(|cell| !cell.faulty)
            .and_then(Cell::median);
        let cells: Vec<String> = row
            .cells
            .iter()
            .enumerate()
            .map(|(index, cell)| show(cell, row, ours.filter(|_| index > 0)))
            .collect();
        let _ = writeln!(
            text,
            "| {}, {} | {} |",
            row.figure,
            row.unit,
            cells.join(" | ")
        );
    }
    text.push('\n');
}

fn show(cell: &Cell, row: &Row, ours: Option<f64>) -> String {
    let (Some(median), Some(low), Some(high)) =
        (cell.median(), cell.values.first(), cell.values.last())
    else {
        return "–".to_owned();
    };
    let mut text = format!("**{}**", number(median));
    if cell.values.len() > 1 {
        let _ = write!(text, " [{}–{}]", number(*low), number(*high));
    }
    if cell.faulty {
        text.push('†');
    } else if let Some(times) = ours.and_then(|ours| times_better(row.better, ours, median)) {
        let _ = write!(text, " {}×", number(times));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::example;

    #[test]
    fn a_table_has_medians_ranges_and_ratios() {
        let text = render(&example());
        assert!(
            text.contains("| figure | meshring | mosquitto | rmqtt |"),
            "{text}"
        );
        let row = "| CPU per message, µs | **2.00** [1.00–3.00] | **9.00** [8.00–10.0] 4.50× | **9.00**† |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("* **fault** ingest rmqtt: LOST: 3 of 10"),
            "{text}"
        );
        assert!(
            text.contains("* **missing** rumqttd is not installed"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_without_runs_has_a_dash() {
        let mut comparison = example();
        comparison.brokers.push("flashmq".to_owned());
        assert!(render(&comparison).contains("| **9.00**† | – |"));
    }
}
