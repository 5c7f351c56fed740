//! The fuzzer's bytes, read from the front. Every input means something.

/// What is left of them.
pub struct Program<'a> {
    rest: &'a [u8],
}

impl<'a> Program<'a> {
    pub fn new(rest: &'a [u8]) -> Program<'a> {
        Program { rest }
    }

    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte; 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// So many bytes, or fewer.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// One of `choices`, by the bits of `byte` from `shift` on.
pub fn pick<T: Copy>(byte: u8, shift: u32, choices: &[T]) -> T {
    choices[usize::from(byte >> shift) % choices.len()]
}
