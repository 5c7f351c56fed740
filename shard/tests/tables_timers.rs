//! The timing wheel against a sorted list.

use proptest::collection::vec;
use proptest::prelude::*;
use shard::Time;
use shard::timers::{TimerId, Timers};

/// Microseconds that a timer may be late.
const LATE_MAX: u64 = 16_000;

#[derive(Clone, Debug)]
enum Step {
    /// A timer so many microseconds ahead.
    Schedule(u64),
    /// Cancels a timer: one of all that ever were.
    Cancel(prop::sample::Index),
    /// Lets so many microseconds pass.
    Advance(u64),
    /// Lets time pass until the deadline.
    Deadline,
}

fn spans() -> impl Strategy<Value = u64> {
    // From microseconds to centuries, each magnitude as often.
    (0..52u32, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => spans().prop_map(Step::Schedule),
        2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        2 => spans().prop_map(Step::Advance),
        2 => Just(Step::Deadline),
    ];
    vec(step, 1..200)
}

/// The wheel and what it ought to hold.
struct Pair {
    timers: Timers<u64>,
    now: Time,
    /// Every timer there ever was; its key is its place here. `None` when it is gone.
    all: Vec<(TimerId, Option<Time>)>,
}

impl Pair {
    fn waiting(&self) -> impl Iterator<Item = Time> {
        self.all.iter().filter_map(|(_, at)| *at)
    }

    fn schedule(&mut self, at: Time) {
        let key = self.all.len() as u64;
        let id = self.timers.schedule(at, key);
        self.all.push((id, Some(at)));
    }

    fn cancel(&mut self, index: usize) {
        let (id, at) = &mut self.all[index];
        assert_eq!(self.timers.cancel(*id), at.take().map(|_| index as u64));
    }

    /// Pops all that expired; they come sorted, as far as a tick resolves.
    fn pop(&mut self) {
        let mut last = Time(0);
        while let Some(key) = self.timers.pop_expired(self.now) {
            let at = self.all[key as usize].1.take().expect("a timer fires once");
            assert!(at <= self.now, "{at:?} fired early, at {:?}", self.now);
            assert!(at.0 + LATE_MAX >= last.0, "{at:?} fired after {last:?}");
            last = last.max(at);
        }
        let due = self
            .waiting()
            .filter(|at| at.0 + LATE_MAX <= self.now.0)
            .count();
        assert_eq!(due, 0, "timers are late");
    }

    fn check_deadline(&self) {
        let deadline = self.timers.next_deadline();
        let first = self.waiting().min();
        assert_eq!(deadline.is_some(), first.is_some());
        if let (Some(deadline), Some(first)) = (deadline, first) {
            assert!(
                deadline.0 < first.0.max(self.now.0) + LATE_MAX,
                "{deadline:?} for {first:?}"
            );
            assert!(
                deadline > self.now || first <= self.now,
                "a deadline in the past"
            );
        }
    }
}

fn run(steps: &[Step], start: Time) {
    let mut pair = Pair {
        timers: Timers::new(start),
        now: start,
        all: Vec::new(),
    };
    for step in steps {
        match step {
            Step::Schedule(span) => pair.schedule(Time(pair.now.0 + span)),
            Step::Cancel(_) if pair.all.is_empty() => {}
            Step::Cancel(index) => pair.cancel(index.index(pair.all.len())),
            Step::Advance(span) => pair.now.0 += span,
            Step::Deadline => {
                pair.now = pair
                    .timers
                    .next_deadline()
                    .unwrap_or_default()
                    .max(pair.now)
            }
        }
        if matches!(step, Step::Advance(_) | Step::Deadline) {
            pair.pop();
            pair.check_deadline();
        }
        assert_eq!(pair.timers.len(), pair.waiting().count());
        pair.timers.check();
    }
    // Going from deadline to deadline ends, and soon.
    for _ in 0..pair.timers.len() * 9 {
        let Some(deadline) = pair.timers.next_deadline() else {
            break;
        };
        pair.now = pair.now.max(deadline);
        pair.pop();
    }
    assert!(pair.timers.is_empty());
}

proptest! {
    #[test]
    fn timers_fire_as_a_sorted_list_says(steps in steps(), start in 0..1u64 << 52) {
        run(&steps, Time(start));
    }
}
