//! What one run of one scenario found: figures, counts, and what was wrong with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::Interval;
use crate::traffic::{Measurement, Pace};

/// Above this part of a core the generator may have been the limit.
const GENERATOR_BUSY_MAX: f64 = 0.97;
/// Above this part of the broker's core, others disturbed the run.
const OTHERS_BUSY_MAX: f64 = 0.05;
/// Above this p99 of lateness the generator did not keep its schedule.
const LATENESS_MAX_US: f64 = 1_000.0;

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Cost.
    Lower,
    /// Capacity.
    Higher,
}

/// One number with its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The number; `None` if the run could not give it.
    pub value: Option<f64>,
    /// Which way is better.
    pub better: Better,
}

/// What one run of one scenario found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The broker's name.
    pub broker: String,
    /// Everything that was chosen, by name.
    pub parameters: BTreeMap<String, String>,
    /// The figures, the most important first.
    pub figures: Vec<Figure>,
    /// Context: how busy broker and generator were, counts, sources.
    pub details: BTreeMap<String, f64>,
    /// What makes the run worthless.
    pub faults: Vec<String>,
    /// What makes the run worth less.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// An outcome without figures.
    pub fn new(scenario: &str, broker: &str) -> Outcome {
        Outcome {
            scenario: scenario.to_owned(),
            broker: broker.to_owned(),
            parameters: BTreeMap::new(),
            figures: Vec::new(),
            details: BTreeMap::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes a choice.
    pub fn parameter(&mut self, name: &str, value: impl ToString) {
        self.parameters.insert(name.to_owned(), value.to_string());
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &str, unit: &str, better: Better, value: f64) {
        let value = value.is_finite().then_some(value);
        self.figures.push(Figure {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value,
            better,
        });
    }

    /// Adds context.
    pub fn detail(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.details.insert(name.to_owned(), value);
        }
    }

    /// Adds what an interval says about the host, with warnings where it was disturbed.
    pub fn interval(&mut self, interval: &Interval) {
        self.parameter("CPU time from", interval.cpu_source);
        self.detail("seconds", interval.elapsed.as_secs_f64());
        self.detail("broker busy", interval.broker_busy);
        self.detail("broker waiting for CPU", interval.broker_waiting);
        self.detail("generator busy", interval.generator_busy);
        if let Some(softirq) = interval.softirq_busy {
            self.detail("kernel network thread on the broker's core", softirq);
        }
        if let Some(others) = interval.others_busy {
            self.detail("others on the broker's core", others);
            if others > OTHERS_BUSY_MAX {
                // The part itself is among the details: remarks that are alike are counted.
                let most = OTHERS_BUSY_MAX * 100.0;
                self.warnings.push(format!(
                    "others used more than {most:.0} % of the broker's core: not a quiet host"
                ));
            }
        }
    }

    /// Adds the figures of a run with messages.
    pub fn measurement(&mut self, measurement: &Measurement, pace: Pace) {
        let interval = &measurement.interval;
        let messages = measurement.messages();
        self.interval(interval);
        self.figure(
            "CPU per message",
            "µs",
            Better::Lower,
            interval.us_per(messages),
        );
        self.figure(
            "messages in+out",
            "/s",
            Better::Higher,
            interval.per_second(messages),
        );
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let us = if measurement.latency.is_empty() {
                f64::NAN
            } else {
                measurement.latency.value_at_quantile(quantile) as f64 / 1e3
            };
            self.figure(&format!("latency {name}"), "µs", Better::Lower, us);
        }
        self.detail("sent per second", interval.per_second(measurement.sent));
        self.detail(
            "delivered per second",
            interval.per_second(measurement.delivered),
        );
        let totals = &measurement.totals;
        for (name, count) in [
            ("sent", totals.sent),
            ("acknowledged", totals.acknowledged),
            ("delivered", totals.delivered),
            ("lost", totals.lost),
            ("duplicated", totals.duplicated),
            ("reordered", totals.reordered),
        ] {
            self.detail(name, count as f64);
        }
        self.faults.extend(measurement.faults.iter().cloned());
        self.judge_generator(measurement, pace);
    }

    /// Says whether the generator may have been what limited the run.
    fn judge_generator(&mut self, measurement: &Measurement, pace: Pace) {
        let interval = &measurement.interval;
        match pace {
            Pace::Open { rate } => {
                let late_us = measurement.lateness.value_at_quantile(0.99) as f64 / 1e3;
                self.detail("sent late p99 µs", late_us);
                if late_us > LATENESS_MAX_US {
                    let most = LATENESS_MAX_US;
                    self.warnings.push(format!(
                        "1 % of the messages left more than {most:.0} µs late"
                    ));
                }
                let reached = interval.per_second(measurement.sent);
                if reached < rate * 0.99 {
                    self.warnings
                        .push(format!("only {reached:.0} of {rate:.0} messages/s sent"));
                }
            }
            Pace::Closed { .. } => {
                if interval.generator_busy > GENERATOR_BUSY_MAX {
                    self.warnings
                        .push("the generator's core was full: capacity unknown".to_owned());
                }
            }
        }
    }

    /// The value of the figure called `name`.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|figure| figure.name == name)?
            .value
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let figures: Vec<String> = self
            .figures
            .iter()
            .map(|figure| {
                let value = figure.value.map_or("–".to_owned(), number);
                format!("{} {value} {}", figure.name, figure.unit)
            })
            .collect();
        let busy = |name: &str| self.details.get(name).map_or(0.0, |share| share * 100.0);
        format!(
            "{} {}: {} (broker {:.0} %, generator {:.0} %, others {:.0} % of a core)",
            self.scenario,
            self.broker,
            figures.join(", "),
            busy("broker busy"),
            busy("generator busy"),
            busy("others on the broker's core"),
        )
    }
}

/// A number with about three significant digits, thousands separated.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        return thousands(value);
    }
    let decimals = match magnitude {
        m if m >= 100.0 || m == 0.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let cases = [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.049, "1.05"),
            (21.94, "21.9"),
            (732.4, "732"),
            (1_070_000.0, "1,070,000"),
            (999_999.6, "1,000,000"),
            (-1_234.0, "-1,234"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_figure_that_is_not_a_number_has_no_value() {
        let mut outcome = Outcome::new("ingest", "mosquitto");
        outcome.figure("CPU per message", "µs", Better::Lower, f64::NAN);
        outcome.figure("messages", "/s", Better::Higher, 5.0);
        assert_eq!(outcome.value("CPU per message"), None);
        assert_eq!(outcome.value("messages"), Some(5.0));
        assert!(outcome.summary().contains("CPU per message – µs"));
    }
}
