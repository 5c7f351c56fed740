//! All that is random in a run, from one seed.
//!
//! The generator is SplitMix64: a counter and a mixing function. It never repeats within 2^64
//! draws and needs no warming up, so neighbouring seeds give unrelated runs.

/// A source of numbers that is the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// A source that its seed decides.
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index into something with `length` elements, which is above 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in so many cases.
    pub fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// One of them; there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A length of time that is mostly short and sometimes long: up to `max`, in any unit.
    pub fn delay(&mut self, max: u64) -> u64 {
        let cut = self.below(max.max(1)) + 1;
        self.below(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut one, mut two) = (Chance::new(7), Chance::new(7));
        assert!((0..100).all(|_| one.draw() == two.draw()));
        assert_ne!(Chance::new(7).draw(), Chance::new(8).draw());
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut chance = Chance::new(3);
        let drawn: Vec<u64> = (0..1_000).map(|_| chance.between(2, 5)).collect();
        assert!((2..=5).all(|n| drawn.contains(&n)));
        assert!(drawn.iter().all(|n| (2..=5).contains(n)));
    }
}
