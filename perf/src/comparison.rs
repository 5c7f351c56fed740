//! All runs of several brokers, and what they come to: medians, spreads, ratios.

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::outcome::{Better, Outcome};

/// Everything that a comparison found; saved as JSON, from which the tables can be made again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Where and when.
    pub host: Host,
    /// How often each scenario ran against each broker.
    pub rounds: usize,
    /// Brokers, the one under test first.
    pub brokers: Vec<String>,
    /// Scenarios, in order.
    pub scenarios: Vec<String>,
    /// Brokers that were asked for and are not here, with the reason.
    pub missing: Vec<String>,
    /// Every run, in the order in which they were made.
    pub runs: Vec<Outcome>,
}

/// One figure of one scenario, for every broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// The figure's name.
    pub figure: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// One cell per broker, in the order of [`Comparison::brokers`].
    pub cells: Vec<Cell>,
}

/// One figure of one broker over all rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The values that count, sorted.
    pub values: Vec<f64>,
    /// Every run had faults, so these values are shown only to be seen.
    pub faulty: bool,
}

impl Cell {
    /// The median, if there is a value.
    pub fn median(&self) -> Option<f64> {
        median(&self.values)
    }
}

/// The middle of sorted `values`; between the two in the middle if their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    debug_assert!(values.is_sorted(), "medians are taken of sorted values");
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// How many times better `ours` is than `theirs`: above 1 if ours is better, whichever way that
/// is. `None` if it cannot be said.
pub fn times_better(better: Better, ours: f64, theirs: f64) -> Option<f64> {
    let ratio = match better {
        Better::Lower => theirs / ours,
        Better::Higher => ours / theirs,
    };
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

impl Comparison {
    /// The rows of all scenarios, in the order in which figures first appear.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for scenario in &self.scenarios {
            for run in self.runs.iter().filter(|run| run.scenario == *scenario) {
                for figure in &run.figures {
                    let known = |row: &Row| row.scenario == *scenario && row.figure == figure.name;
                    if !rows.iter().any(known) {
                        rows.push(Row {
                            scenario: scenario.clone(),
                            figure: figure.name.clone(),
                            unit: figure.unit.clone(),
                            better: figure.better,
                            cells: self.cells(scenario, &figure.name),
                        });
                    }
                }
            }
        }
        rows
    }

    fn cells(&self, scenario: &str, figure: &str) -> Vec<Cell> {
        self.brokers
            .iter()
            .map(|broker| self.cell(scenario, broker, figure))
            .collect()
    }

    fn cell(&self, scenario: &str, broker: &str, figure: &str) -> Cell {
        let of = |faulty: bool| -> Vec<f64> {
            let mut values: Vec<f64> = self
                .runs
                .iter()
                .filter(|run| run.scenario == scenario && run.broker == broker)
                .filter(|run| run.faults.is_empty() != faulty)
                .filter_map(|run| run.value(figure))
                .collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let values = of(false);
        if values.is_empty() {
            let values = of(true);
            let faulty = !values.is_empty();
            return Cell { values, faulty };
        }
        Cell {
            values,
            faulty: false,
        }
    }

    /// Faults and warnings of all runs, each once, with how often it was said.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<(String, usize)> = Vec::new();
        let mut note = |text: String| match remarks.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => remarks.push((text, 1)),
        };
        for run in &self.runs {
            let place = format!("{} {}", run.scenario, run.broker);
            for fault in &run.faults {
                note(format!("**fault** {place}: {fault}"));
            }
            for warning in &run.warnings {
                note(format!("{place}: {warning}"));
            }
        }
        for missing in &self.missing {
            note(format!("**missing** {missing}"));
        }
        let say = |(text, count): (String, usize)| {
            if count > 1 {
                format!("{text} ({count} times)")
            } else {
                text
            }
        };
        remarks.into_iter().map(say).collect()
    }

    /// The largest part of the broker's core that others used in any run, if it is known.
    pub fn noise(&self) -> Option<f64> {
        let others = |run: &Outcome| run.details.get("others on the broker's core").copied();
        self.runs.iter().filter_map(others).max_by(f64::total_cmp)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Comparison {
        let run = |broker: &str, cost: f64, fault: Option<&str>| {
            let mut outcome = Outcome::new("ingest", broker);
            outcome.figure("CPU per message", "µs", Better::Lower, cost);
            outcome.figure("messages in+out", "/s", Better::Higher, 1e6 / cost);
            outcome.faults.extend(fault.map(str::to_owned));
            outcome
        };
        Comparison {
            host: Host {
                cpu: "<a> & b".to_owned(),
                ..Host::default()
            },
            rounds: 3,
            brokers: vec![
                "meshring".to_owned(),
                "mosquitto".to_owned(),
                "rmqtt".to_owned(),
            ],
            scenarios: vec!["ingest".to_owned()],
            missing: vec!["rumqttd is not installed".to_owned()],
            runs: vec![
                run("meshring", 1.0, None),
                run("mosquitto", 8.0, None),
                run("rmqtt", 9.0, Some("LOST: 3 of 10")),
                run("meshring", 3.0, None),
                run("mosquitto", 10.0, None),
                run("meshring", 2.0, None),
                run("meshring", 0.1, Some("LOST: 9 of 10")),
            ],
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[1.0, 2.0, 30.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 30.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_above_one_is_always_better() {
        assert_eq!(times_better(Better::Lower, 2.0, 8.0), Some(4.0));
        assert_eq!(times_better(Better::Higher, 2.0, 8.0), Some(0.25));
        assert_eq!(times_better(Better::Lower, 0.0, 8.0), None);
        assert_eq!(times_better(Better::Higher, f64::NAN, 8.0), None);
    }

    #[test]
    fn runs_with_faults_do_not_count_where_there_are_others() {
        let rows = example().rows();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].figure, "CPU per message");
        assert_eq!(rows[0].cells[0].values, [1.0, 2.0, 3.0]);
        assert_eq!(rows[0].cells[0].median(), Some(2.0));
        assert_eq!(rows[0].cells[1].median(), Some(9.0));
        assert!(!rows[0].cells[0].faulty);
        assert!(rows[0].cells[2].faulty);
        assert_eq!(rows[0].cells[2].median(), Some(9.0));
    }

    #[test]
    fn remarks_are_said_once_with_their_number() {
        let mut comparison = example();
        comparison.runs.extend(comparison.runs.clone());
        let remarks = comparison.remarks();
        assert!(remarks.contains(&"**fault** ingest rmqtt: LOST: 3 of 10 (2 times)".to_owned()));
        assert!(remarks.contains(&"**missing** rumqttd is not installed".to_owned()));
    }

    #[test]
    fn a_comparison_survives_being_saved() {
        let text = serde_json::to_string(&example()).unwrap();
        let read: Comparison = serde_json::from_str(&text).unwrap();
        let shown = crate::markdown::render;
        assert_eq!(shown(&read), shown(&example()));
    }
}
