//! Which of some slow hashes a secret fits.
//!
//! A pair of hash and secret that fits is remembered as a keyed digest of both, so that a device
//! that comes again costs one fast hash. The key is drawn at start and never leaves the process, so
//! the table tells nobody anything, and looking something up in it takes no time that depends on
//! the secret in a way that could be used. Bounded: two halves of [`SECRETS_MAX`] / 2 digests; when
//! one is full, the other is forgotten.

use super::Counts;
use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Pairs that are remembered.
pub const SECRETS_MAX: usize = 200_000;

/// A hash that takes longer than this (2 to the power of it rounds: half a minute) is none that a
/// server would have made, and would keep a thread from all others.
const COST_MAX: u32 = 18;

type Digest = [u8; 32];

/// The pairs that have fitted.
pub struct Verified {
    key: [u8; 32],
    halves: Mutex<Halves>,
    half_max: usize,
}

#[derive(Default)]
struct Halves {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

impl Verified {
    /// None yet, of at most so many. Errs if the system gives no random numbers.
    pub fn new(secrets_max: usize) -> anyhow::Result<Verified> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).context("the system gives no random numbers")?;
        Ok(Verified {
            key,
            halves: Mutex::default(),
            half_max: (secrets_max / 2).max(1),
        })
    }

    /// The place of the first hash that the secret fits: those that are remembered first, since
    /// they cost next to nothing; if `only_known`, those alone.
    pub fn first_fit(
        &self,
        secret: &str,
        hashes: &[Box<str>],
        only_known: bool,
        counts: &Counts,
    ) -> Option<usize> {
        Counts::add(&counts.verified);
        let digests: Vec<Digest> = hashes
            .iter()
            .map(|hash| self.digest(hash, secret))
            .collect();
        if let Some(place) = digests.iter().position(|digest| self.knows(digest)) {
            Counts::add(&counts.remembered);
            return Some(place);
        }
        if only_known {
            return None;
        }
        let place = hashes.iter().position(|hash| fits(secret, hash))?;
        self.remember(digests[place]);
        Some(place)
    }

    fn digest(&self, hash: &str, secret: &str) -> Digest {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        // Its length first, so that no other pair has the same bytes.
        mac.update(&(hash.len() as u64).to_be_bytes());
        mac.update(hash.as_bytes());
        mac.update(secret.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn knows(&self, digest: &Digest) -> bool {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.young.contains(digest) {
            return true;
        }
        let is_old = halves.old.contains(digest);
        if is_old {
            halves.put(*digest, self.half_max);
        }
        is_old
    }

    fn remember(&self, digest: Digest) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.put(digest, self.half_max);
    }
}

impl Halves {
    fn put(&mut self, digest: Digest, half_max: usize) {
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest);
    }
}

/// Whether a secret fits a bcrypt hash; what is no such hash fits nothing.
fn fits(secret: &str, hash: &str) -> bool {
    let is_affordable =
        bcrypt::HashParts::from_str(hash).is_ok_and(|parts| parts.get_cost() <= COST_MAX);
    // It compares in constant time.
    is_affordable && bcrypt::verify(secret, hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    fn hashed(secret: &str) -> Box<str> {
        bcrypt::hash(secret, 4).unwrap().into()
    }

    #[test]
    fn the_first_hash_that_fits_is_found_and_remembered() {
        let verified = Verified::new(100).unwrap();
        let counts = Counts::default();
        let hashes = [hashed("one"), hashed("two"), hashed("two")];
        for time in 0..3 {
            assert_eq!(verified.first_fit("two", &hashes, false, &counts), Some(1));
            assert_eq!(counts.remembered.load(Ordering::Relaxed), time);
        }
        assert_eq!(verified.first_fit("three", &hashes, false, &counts), None);
        // Not remembered for another hash of the same secret, nor once it is revoked.
        assert!(!verified.knows(&verified.digest(&hashes[2], "two")));
        assert_eq!(
            verified.first_fit("two", &hashes[..1], false, &counts),
            None
        );
        assert_eq!(verified.first_fit("", &[], false, &counts), None);
    }

    #[test]
    fn only_what_is_known_costs_nothing() {
        let verified = Verified::new(100).unwrap();
        let counts = Counts::default();
        let hashes = [hashed("one")];
        let fits = |only_known| verified.first_fit("one", &hashes, only_known, &counts);
        assert_eq!(fits(true), None);
        assert_eq!(fits(false), Some(0));
        assert_eq!(fits(true), Some(0));
    }

    #[test]
    fn what_is_no_hash_or_too_slow_fits_nothing() {
        let slow = hashed("a").replacen("$04$", "$31$", 1);
        for hash in ["", "a", "$2b$", "$2b$04$short", "plain", &slow] {
            assert!(!fits("a", hash), "{hash}");
        }
        // As FreshBlu and others write it.
        let other = hashed("a").replacen("$2b$", "$2y$", 1);
        assert!(fits("a", &other));
    }

    #[test]
    fn as_many_are_remembered_as_allowed() {
        let verified = Verified::new(8).unwrap();
        let digest = |number: u8| [number; 32];
        for number in 0..100 {
            verified.remember(digest(number));
            assert!(verified.knows(&digest(number)));
            // One that is used stays.
            assert!(number == 0 || verified.knows(&digest(0)) || number > 90);
            let halves = verified.halves.lock().unwrap();
            assert!(halves.young.len() <= 4 && halves.old.len() <= 4);
        }
        assert!(verified.knows(&digest(0)) && verified.knows(&digest(99)));
        assert!(!verified.knows(&digest(50)));
    }
}
