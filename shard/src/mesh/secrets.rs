//! Tokens and UUIDs that nobody can guess, drawn from ChaCha12 under a key that the host gave.

use crate::{DeviceId, ShardId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A source of them.
#[derive(Debug)]
pub(crate) struct Secrets(ChaCha12Rng);

impl Secrets {
    /// All shards share the seed; each has a stream of its own.
    pub fn new(seed: [u8; 32], shard: ShardId) -> Secrets {
        let mut generator = ChaCha12Rng::from_seed(seed);
        generator.set_stream(u64::from(shard.0));
        Secrets(generator)
    }

    /// A token of 160 random bits.
    pub fn token(&mut self) -> Box<str> {
        meshblu::generate(self.bytes()).into()
    }

    /// A UUID of version 4.
    pub fn uuid(&mut self) -> DeviceId {
        DeviceId::from_random(self.bytes())
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_draw_different_tokens_from_one_seed() {
        let mut first = Secrets::new([7; 32], ShardId(0));
        let mut second = Secrets::new([7; 32], ShardId(1));
        let drawn = [first.token(), first.token(), second.token()];
        assert!(drawn[0] != drawn[1] && drawn[0] != drawn[2] && drawn[1] != drawn[2]);
    }
}
