//! Randomness and ids that a guest gets: derived from the unit, so that the same unit run again gives the
//! same ones.

use rand::{SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

/// The seed of one call of a guest, from which all its randomness is derived.
#[derive(Debug)]
pub(crate) struct Randomness {
    seed: [u8; 32],
    ids: u64,
}

impl Randomness {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, ids: 0 }
    }

    /// A generator of its own for each purpose.
    pub(super) fn generator(&self, purpose: &[u8]) -> StdRng {
        StdRng::from_seed(self.block(purpose))
    }

    /// For a guest's hash maps.
    pub(super) fn hash_seed(&self) -> u128 {
        let (first, second) = halves(self.block(b"hash"));
        (u128::from(first) << 64) | u128::from(second)
    }

    /// A version 7 UUID (RFC 9562) as big-endian halves: the unit's time, then a random number that each id
    /// increases by one, so that ids ascend.
    pub(super) fn id(&mut self, now_us: i64) -> (u64, u64) {
        let (first, second) = halves(self.block(b"ids"));
        // 73 of 74 bits, so that counting up never overflows.
        let start = (u128::from(first & 0x1ff) << 64) | u128::from(second);
        let number = start + u128::from(self.ids);
        self.ids += 1;
        let milliseconds = u64::try_from(now_us.max(0) / 1_000).unwrap_or(0);
        let (upper, lower) = (number >> 62, number & ((1 << 62) - 1));
        let high =
            ((milliseconds & 0xffff_ffff_ffff) << 16) | 0x7000 | u64::try_from(upper & 0xfff).unwrap_or(0);
        (high, (0b10 << 62) | u64::try_from(lower).unwrap_or(0))
    }

    fn block(&self, purpose: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(purpose);
        hash.finalize().into()
    }
}

fn halves(block: [u8; 32]) -> (u64, u64) {
    let number =
        |from: usize| block.iter().skip(from).take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    (number(0), number(8))
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::Randomness;

    #[test]
    fn ids_are_of_version_7_and_ascend() {
        let mut random = Randomness::new([7; 32]);
        let now_us = 1_700_000_000_123_456;
        let ids: Vec<_> = (0..3).map(|_| random.id(now_us)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        for (high, low) in ids {
            let id = uuid::Uuid::from_u64_pair(high, low);
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(id.get_timestamp().map(|t| t.to_unix()), Some((1_700_000_000, 123_000_000)));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_and_another_does_not() {
        let bytes = |seed: u8, purpose: &[u8]| {
            let mut buffer = [0; 70];
            Randomness::new([seed; 32]).generator(purpose).fill_bytes(&mut buffer);
            buffer
        };
        assert_eq!(bytes(1, b"secure"), bytes(1, b"secure"));
        assert_ne!(bytes(1, b"secure"), bytes(2, b"secure"));
        assert_ne!(bytes(1, b"secure"), bytes(1, b"insecure"));
        assert_ne!(Randomness::new([1; 32]).hash_seed(), Randomness::new([2; 32]).hash_seed());
        assert_ne!(Randomness::new([1; 32]).id(0), Randomness::new([2; 32]).id(0));
    }
}
