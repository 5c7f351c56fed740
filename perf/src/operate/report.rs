//! What is told at the end, and what of it is a broken promise.

use super::steps::Expects;
use super::truth::Counts;

/// One step.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Seconds that the work itself took.
    pub work_s: f64,
    /// Seconds from the first connection that ended until everybody was back (or, after a drain,
    /// from the end of the work); 0 where nobody went.
    pub away_s: f64,
    /// Clients at work before it, and after.
    pub ready: [usize; 2],
    /// All that was counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The whole run.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Clients in all.
    pub clients: usize,
    /// Seconds until all of them were connected and subscribed.
    pub arrival_s: f64,
    /// One by one.
    pub steps: Vec<Row>,
    /// Broken promises.
    pub faults: u64,
    /// Words about the first of them.
    pub told: Vec<String>,
}

impl Row {
    /// What this step must not have done, in words.
    pub fn complaints(&self, expects: Expects) -> Vec<String> {
        let counts = &self.counts;
        let mut complaints = Vec::new();
        let mut check = |is_well: bool, what: String| {
            if !is_well {
                complaints.push(format!("{}: {what}", self.name));
            }
        };
        let [before, after] = self.ready;
        match expects {
            Expects::Kept => {
                check(
                    counts.closed == 0,
                    format!("{} connections ended", counts.closed),
                );
                let again = counts.again;
                check(
                    again == 0,
                    format!("{again} messages came again, to connected clients"),
                );
            }
            Expects::Emptied => {
                check(after == 0, format!("{after} clients are still connected"));
                let (closed, before) = (counts.closed as usize, before);
                check(
                    closed >= before,
                    format!("{closed} of {before} were closed"),
                );
            }
            Expects::Returned => {}
        }
        let untold = counts.untold;
        check(
            untold == 0,
            format!(
                "{untold} clients of MQTT 5 were not told why, {} of them cut off by a reset",
                counts.untold_by_reset
            ),
        );
        let unanswered = counts.unanswered;
        check(
            unanswered == 0,
            format!("{unanswered} messages were never acknowledged"),
        );
        complaints
    }
}

const COLUMNS: [(&str, usize); 14] = [
    ("step", 13),
    ("work s", 7),
    ("closed", 7),
    ("in 1 s", 7),
    ("refused", 8),
    ("failed", 7),
    ("away s", 7),
    ("published", 10),
    ("acked", 8),
    ("delivered", 10),
    ("again", 6),
    ("lost", 5),
    ("twice", 6),
    ("pause ms", 9),
];

impl Report {
    /// A table, with the faults below it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} clients connected and subscribed in {:.1} s\n",
            self.clients, self.arrival_s
        );
        for (name, width) in COLUMNS {
            text += &format!("{name:>width$}");
        }
        text.push('\n');
        for row in &self.steps {
            let counts = &row.counts;
            let cells = [
                row.name.clone(),
                format!("{:.2}", row.work_s),
                counts.closed.to_string(),
                counts.closed_in_1_s_max.to_string(),
                counts.refused.to_string(),
                (counts.failed + counts.timed_out).to_string(),
                format!("{:.1}", row.away_s),
                counts.published.to_string(),
                counts.acknowledged.to_string(),
                counts.delivered.to_string(),
                counts.again.to_string(),
                counts.lost.to_string(),
                counts.twice.to_string(),
                format!("{:.0}", counts.pause_max_ns as f64 / 1e6),
            ];
            for ((_, width), cell) in COLUMNS.iter().zip(cells) {
                text += &format!("{cell:>width$}");
            }
            text.push('\n');
        }
        text += &self.remarks();
        for fault in &self.told {
            text += &format!("*** FAULT *** {fault}\n");
        }
        text + &format!("{} faults\n", self.faults)
    }

    fn remarks(&self) -> String {
        let mut text = String::new();
        for row in &self.steps {
            let counts = &row.counts;
            let mut parts = Vec::new();
            for (reason, times) in &counts.reasons {
                parts.push(format!("{times} were told {reason:#04x}"));
            }
            if counts.missed_qos0 > 0 {
                parts.push(format!("{} of QoS 0 did not come", counts.missed_qos0));
            }
            if counts.timed_out > 0 {
                parts.push(format!(
                    "{} attempts had no answer in time",
                    counts.timed_out
                ));
            }
            parts.push(format!(
                "wills: {} owed, {} came",
                counts.wills_owed, counts.wills_came
            ));
            parts.push(format!("{} retained are right", counts.retained));
            text += &format!("{}: {}\n", row.name, parts.join("; "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(expects: Expects, ready: [usize; 2], change: fn(&mut Counts)) -> usize {
        let mut counts = Counts::default();
        change(&mut counts);
        let row = Row {
            name: "step".to_owned(),
            work_s: 0.0,
            away_s: 0.0,
            ready,
            counts,
        };
        row.complaints(expects).len()
    }

    #[test]
    fn each_step_may_do_what_it_must() {
        assert_eq!(complaints(Expects::Kept, [5, 5], |_| {}), 0);
        assert_eq!(complaints(Expects::Kept, [5, 5], |c| c.closed = 1), 1);
        assert_eq!(complaints(Expects::Kept, [5, 5], |c| c.again = 1), 1);
        assert_eq!(complaints(Expects::Emptied, [5, 0], |c| c.closed = 5), 0);
        assert_eq!(complaints(Expects::Emptied, [5, 1], |c| c.closed = 4), 2);
        assert_eq!(complaints(Expects::Returned, [5, 5], |c| c.closed = 5), 0);
        assert_eq!(complaints(Expects::Returned, [5, 5], |c| c.untold = 1), 1);
        assert_eq!(
            complaints(Expects::Returned, [5, 5], |c| c.unanswered = 1),
            1
        );
    }
}
