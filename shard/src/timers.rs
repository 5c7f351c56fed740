//! Timers for everything in a shard that waits: a hierarchical timing wheel.
//!
//! Time is counted in ticks of 8.192 ms. A timer is due at the first tick that is not before its
//! time, so it never fires early and at most one tick late. Each level of the wheel has 64
//! buckets; a bucket of level 0 holds one tick, of level *n* 64ⁿ ticks. A timer lies at the level
//! of the highest group of six bits in which its tick differs from the current one; when the
//! current tick enters a bucket of a higher level, its timers move down. Scheduling and
//! cancelling touch a few cells, and a timer moves down at most eight times in its life.
//!
//! Timers of the same tick fire in the order in which they were scheduled, those of an earlier
//! tick first: nothing depends on chance. Bounded by what its owner schedules.

use crate::Time;
use crate::table::Table;

/// Names a timer until it fires or is cancelled; after that it names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// Microseconds of a tick, as a power of two.
const TICK_BITS: u32 = 13;
/// Bits of a tick that one level of the wheel resolves.
const LEVEL_BITS: u32 = 6;
const BUCKETS: usize = 1 << LEVEL_BITS;
/// Enough for every tick of a 64-bit time.
const LEVELS: usize = 9;
const _: () = assert!(LEVELS as u32 * LEVEL_BITS > 64 - TICK_BITS);
/// Stands where there is no timer.
const NONE: u32 = u32::MAX;

/// A set of timers with a key each; for keys of up to 12 bytes a timer takes 32.
pub struct Timers<K> {
    cells: Table<Cell<K>>,
    /// The first free cell; the others follow through `next`.
    free: u32,
    count: usize,
    /// The tick that was reached. No timer that waits is due before it.
    current: u64,
    /// The buckets that are not empty, by level, a bit each.
    occupied: [u64; LEVELS],
    buckets: [[Bucket; BUCKETS]; LEVELS],
}

/// A timer, linked with the others of its bucket; or a free cell, whose `due` is [`FREE`].
struct Cell<K> {
    due: u64,
    previous: u32,
    next: u32,
    generation: u32,
    key: K,
}

const FREE: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Bucket {
    first: u32,
    last: u32,
}

const EMPTY: Bucket = Bucket {
    first: NONE,
    last: NONE,
};

impl<K: Copy> Timers<K> {
    /// Without timers, at the time `now`.
    pub fn new(now: Time) -> Timers<K> {
        Timers {
            cells: Table::default(),
            free: NONE,
            count: 0,
            current: now.0 >> TICK_BITS,
            occupied: [0; LEVELS],
            buckets: [[EMPTY; BUCKETS]; LEVELS],
        }
    }

    /// Lets `key` come out of [`pop_expired`](Self::pop_expired) once `at` is reached; a time
    /// that has passed is allowed.
    pub fn schedule(&mut self, at: Time, key: K) -> TimerId {
        // The last tick is in the year 586,500: a time within it counts as its beginning.
        let due =
            at.0.div_ceil(1 << TICK_BITS)
                .min(u64::MAX >> TICK_BITS)
                .max(self.current);
        let index = self.free;
        let index = if index == NONE {
            self.cells.push(Cell {
                due,
                previous: NONE,
                next: NONE,
                generation: 0,
                key,
            });
            u32::try_from(self.cells.len() - 1).expect("limits keep timers below 2^32")
        } else {
            let cell = &mut self.cells[index as usize];
            assert_eq!(cell.due, FREE);
            self.free = cell.next;
            (cell.due, cell.key) = (due, key);
            index
        };
        self.link(index);
        self.count += 1;
        TimerId {
            index,
            generation: self.cells[index as usize].generation,
        }
    }

    /// Takes a timer away and gives its key back; `None` if it has fired or was cancelled.
    pub fn cancel(&mut self, id: TimerId) -> Option<K> {
        let cell = self.cells.get(id.index as usize)?;
        if cell.generation != id.generation || cell.due == FREE {
            return None;
        }
        let key = cell.key;
        self.unlink(id.index);
        self.release(id.index);
        Some(key)
    }

    /// The next timer whose time has come. Call until it gives `None`, or come back later.
    pub fn pop_expired(&mut self, now: Time) -> Option<K> {
        let now = now.0 >> TICK_BITS;
        // Every round but the last moves timers down a level.
        while let Some((level, start)) = self.next_bucket()
            && start <= now
        {
            self.current = start;
            let index = self.bucket(level, start).first;
            if level == 0 {
                let key = self.cells[index as usize].key;
                self.unlink(index);
                self.release(index);
                return Some(key);
            }
            self.move_down(level, start);
        }
        self.current = self.current.max(now);
        None
    }

    /// When to call [`pop_expired`](Self::pop_expired) next; `None` if no timer waits. For a timer
    /// that is far ahead an earlier time: then there will be nothing to pop, and a later answer
    /// from here.
    #[inline]
    pub fn next_deadline(&self) -> Option<Time> {
        let (_, start) = self.next_bucket()?;
        Some(Time(start.saturating_mul(1 << TICK_BITS)))
    }

    /// How many timers wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Asserts that buckets, bits and counts agree. Costs time: for tests and the simulator.
    pub fn check(&self) {
        let mut count = 0;
        for level in 0..LEVELS {
            for position in 0..BUCKETS {
                let bucket = self.buckets[level][position];
                let is_occupied = self.occupied[level] >> position & 1 == 1;
                assert_eq!(is_occupied, bucket.first != NONE);
                assert_eq!(is_occupied, bucket.last != NONE);
                let (mut previous, mut index) = (NONE, bucket.first);
                while index != NONE {
                    let cell = &self.cells[index as usize];
                    assert_eq!(cell.previous, previous);
                    assert!(cell.due >= self.current && cell.due != FREE);
                    assert_eq!(place(self.current, cell.due), (level, position));
                    (previous, index) = (index, cell.next);
                    count += 1;
                }
                assert_eq!(bucket.last, previous);
            }
        }
        assert_eq!(count, self.count);
        assert_eq!(
            self.cells.iter().filter(|cell| cell.due != FREE).count(),
            count
        );
    }

    /// The bucket that is reached first, by its level and first tick.
    #[inline]
    fn next_bucket(&self) -> Option<(usize, u64)> {
        // A bucket of a low level lies within the current bucket of the level above, so before
        // all other buckets of that level.
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let position = u64::from(self.occupied[level].trailing_zeros());
        let shift = level as u32 * LEVEL_BITS;
        let above = self.current >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
        Some((level, above | position << shift))
    }

    fn bucket(&self, level: usize, tick: u64) -> Bucket {
        self.buckets[level][position(level, tick)]
    }

    /// Moves the timers of a bucket, which begins at the current tick, to lower levels.
    fn move_down(&mut self, level: usize, start: u64) {
        let position = position(level, start);
        let mut index = self.bucket(level, start).first;
        self.buckets[level][position] = EMPTY;
        self.occupied[level] &= !(1 << position);
        while index != NONE {
            let next = self.cells[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let (level, position) = place(self.current, self.cells[index as usize].due);
        let bucket = &mut self.buckets[level][position];
        let last = bucket.last;
        bucket.last = index;
        if last == NONE {
            bucket.first = index;
            self.occupied[level] |= 1 << position;
        } else {
            self.cells[last as usize].next = index;
        }
        let cell = &mut self.cells[index as usize];
        (cell.previous, cell.next) = (last, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let Cell {
            due,
            previous,
            next,
            ..
        } = self.cells[index as usize];
        let (level, position) = place(self.current, due);
        let bucket = &mut self.buckets[level][position];
        match previous {
            NONE => bucket.first = next,
            _ => self.cells[previous as usize].next = next,
        }
        match next {
            NONE => bucket.last = previous,
            _ => self.cells[next as usize].previous = previous,
        }
        if bucket.first == NONE {
            self.occupied[level] &= !(1 << position);
        }
    }

    fn release(&mut self, index: u32) {
        let cell = &mut self.cells[index as usize];
        cell.due = FREE;
        cell.generation = cell.generation.wrapping_add(1);
        cell.next = self.free;
        self.free = index;
        self.count -= 1;
    }
}

/// The level and bucket of a timer due at `due`, seen from the tick `current`.
#[inline]
fn place(current: u64, due: u64) -> (usize, usize) {
    let difference = current ^ due;
    let level = (63 - (difference | 1).leading_zeros()) / LEVEL_BITS;
    (level as usize, position(level as usize, due))
}

#[inline]
fn position(level: usize, tick: u64) -> usize {
    (tick >> (level as u32 * LEVEL_BITS)) as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_760_000_000_000_000);
    const TICK: u64 = 1 << TICK_BITS;

    /// Schedules timers so many microseconds from `NOW`, and expects their places in that list in
    /// this order, each neither early nor more than a tick late, and nothing after.
    fn check(delays: &[u64], expected: &[usize]) {
        let mut timers = Timers::new(NOW);
        let mut now = NOW;
        for (index, delay) in delays.iter().enumerate() {
            timers.schedule(Time(NOW.0 + delay), index);
            timers.check();
        }
        let mut fired = Vec::new();
        while let Some(deadline) = timers.next_deadline() {
            now = now.max(deadline);
            while let Some(index) = timers.pop_expired(now) {
                let late = now
                    .0
                    .checked_sub(NOW.0 + delays[index])
                    .expect("never early");
                assert!(late < TICK, "{late} µs late");
                fired.push(index);
            }
            timers.check();
        }
        assert_eq!(fired, expected);
    }

    #[test]
    fn timers_fire_in_the_order_of_their_ticks_then_of_scheduling() {
        check(&[], &[]);
        check(&[0, 0, 0], &[0, 1, 2]);
        check(&[50_000, 1_000_000, 30_000, 1_000_000], &[2, 0, 1, 3]);
        let year = 365 * 86_400_000_000;
        check(
            &[100 * year, year, 3_600_000_000, 60_000_000],
            &[3, 2, 1, 0],
        );
        check(
            &[u64::MAX - NOW.0 - TICK, 1, u64::MAX - NOW.0 - 2 * TICK],
            &[1, 2, 0],
        );
    }

    #[test]
    fn past_times_fire_at_once() {
        let mut timers = Timers::new(NOW);
        timers.schedule(Time(0), 'a');
        assert_eq!(timers.pop_expired(NOW), Some('a'));
        assert_eq!(timers.pop_expired(NOW), None);
        assert_eq!((timers.next_deadline(), timers.len()), (None, 0));
    }

    #[test]
    fn stale_identifiers_are_ignored() {
        let mut timers = Timers::new(NOW);
        let first = timers.schedule(NOW, 'a');
        assert_eq!(timers.cancel(first), Some('a'));
        assert_eq!(timers.cancel(first), None);
        let second = timers.schedule(NOW, 'b');
        assert_ne!(
            first, second,
            "the cell is used again, the identifier is not"
        );
        assert_eq!(timers.cancel(first), None);
        assert_eq!(
            timers.pop_expired(NOW + crate::Span::from_ms(10)),
            Some('b')
        );
        assert_eq!(timers.cancel(second), None);
        timers.check();
    }

    #[test]
    fn time_may_jump_over_many_timers() {
        let mut timers = Timers::new(Time(0));
        for n in 0..10_000u64 {
            timers.schedule(Time(n * 777_777), n);
        }
        let end = NOW;
        let fired: Vec<_> = std::iter::from_fn(|| timers.pop_expired(end)).collect();
        assert!(fired.iter().copied().eq(0..10_000));
        timers.check();
    }

    #[test]
    fn a_timer_is_small() {
        assert_eq!(size_of::<Cell<[u32; 3]>>(), 32);
        assert_eq!(size_of::<Cell<crate::ConnectionId>>(), 32);
    }
}
