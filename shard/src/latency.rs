//! How long messages take from the turn in which their PUBLISH arrived to the end of the turn in
//! which they were handed to a subscriber's output.
//!
//! The clock is not read for it: all messages of a turn share the turn's time, so deliveries are
//! counted per time of arrival and go into the histogram when the driver says how long the turn has
//! taken. Bounded: [`RUNS_MAX`] times of arrival in a row per turn; beyond that what there is goes
//! in as of the turn's beginning.

use crate::Time;
use crate::histogram::Histogram;

/// Times of arrival that are kept until the turn ends.
const RUNS_MAX: usize = 64;

/// Deliveries of this turn that are not in a histogram yet.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    runs: Vec<Run>,
}

/// So many deliveries of messages that arrived at one time.
#[derive(Debug)]
struct Run {
    arrived: Time,
    count: u64,
}

impl Deliveries {
    /// A message that arrived then goes to a subscriber now. Those whose arrival is not known, since
    /// they come from the store or from the broker itself, do not count.
    pub fn note(&mut self, arrived: Time, now: Time, histogram: &mut Histogram) {
        match self.runs.last_mut() {
            Some(run) if run.arrived == arrived => run.count += 1,
            _ if arrived == Time::default() => {}
            _ => {
                if self.runs.len() == RUNS_MAX {
                    self.finish(now, histogram);
                }
                let count = 1;
                self.runs.push(Run { arrived, count });
            }
        }
    }

    /// The turn is over at `end`.
    pub fn finish(&mut self, end: Time, histogram: &mut Histogram) {
        for run in self.runs.drain(..) {
            histogram.record(end.since(run.arrived), run.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn a_turn_counts_to_its_end() {
        let (mut deliveries, mut histogram) = (Deliveries::default(), Histogram::default());
        for arrived in [1_000, 1_000, 900, 0] {
            deliveries.note(Time(arrived), Time(1_000), &mut histogram);
        }
        assert_eq!(histogram.count(), 0);
        deliveries.finish(Time(1_050), &mut histogram);
        assert_eq!((histogram.count(), histogram.sum()), (3, Span(250)));
        deliveries.finish(Time(9_999), &mut histogram);
        assert_eq!(histogram.count(), 3);
    }

    #[test]
    fn a_turn_with_very_many_arrivals_loses_none() {
        let (mut deliveries, mut histogram) = (Deliveries::default(), Histogram::default());
        for arrived in 1..=1_000 {
            deliveries.note(Time(arrived), Time(1_000), &mut histogram);
            assert!(deliveries.runs.len() <= RUNS_MAX);
        }
        deliveries.finish(Time(1_000), &mut histogram);
        assert_eq!(histogram.count(), 1_000);
    }
}
