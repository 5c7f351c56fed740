//! How often something took how long: plain integers, nothing allocated, one addition per value.
//!
//! The bounds are powers of two of a microsecond, so a value's bucket is found from its leading
//! zeros, and histograms of all shards can be added.

use crate::Span;

/// Buckets, the last of which has no upper bound.
pub const BUCKETS: usize = 24;
/// The first bucket's bound: 2 to this power, in microseconds.
const FIRST_POWER: u32 = 2;

/// How many values lay in which range, from 4 µs by doubling up to 16.8 s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Histogram {
    /// Notes `times` values of this length.
    pub fn record(&mut self, length: Span, times: u64) {
        let below = length.0.saturating_sub(1) >> FIRST_POWER;
        let at = (u64::BITS - below.leading_zeros()) as usize;
        self.counts[at.min(BUCKETS - 1)] += times;
        self.sum_us += length.0 * times;
    }

    /// Adds another one's values.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_us += other.sum_us;
    }

    /// Each bucket's upper bound, which belongs to it, and how many values it has; the last one's
    /// bound is `None`.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Span>, u64)> {
        (FIRST_POWER..).zip(self.counts).map(|(power, count)| {
            let is_last = power as usize == FIRST_POWER as usize + BUCKETS - 1;
            ((!is_last).then(|| Span(1 << power)), count)
        })
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What all values come to.
    pub fn sum(&self) -> Span {
        Span(self.sum_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound of the bucket that a value falls into.
    fn bound(us: u64) -> Option<u64> {
        let mut histogram = Histogram::default();
        histogram.record(Span(us), 1);
        let (bound, _) = histogram.buckets().find(|(_, count)| *count == 1).unwrap();
        bound.map(|bound| bound.0)
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (us, expected) in [
            (0, Some(4)),
            (4, Some(4)),
            (5, Some(8)),
            (8, Some(8)),
            (9, Some(16)),
            (1_000, Some(1_024)),
            (1 << 24, Some(1 << 24)),
            ((1 << 24) + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(bound(us), expected, "{us} µs");
        }
    }

    #[test]
    fn histograms_add_up() {
        let mut all = Histogram::default();
        let mut one = Histogram::default();
        one.record(Span(10), 3);
        all.add(&one);
        all.add(&one);
        assert_eq!((all.count(), all.sum()), (6, Span(60)));
        assert_eq!(all.buckets().count(), BUCKETS);
        assert_eq!(all.buckets().last(), Some((None, 0)));
    }
}
