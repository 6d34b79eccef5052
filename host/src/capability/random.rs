//! Randomness and ids that a guest gets: derived from the unit, so that the same unit done again
//! gives the same ones.

use sha2::{Digest, Sha256};

/// SHA-256 of the seed and a counter, as long as is needed.
#[derive(Debug)]
pub(crate) struct Randomness {
    seed: [u8; 32],
    blocks: u64,
    ids: u64,
}

impl Randomness {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, blocks: 0, ids: 0 }
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = self.block(b"bytes", self.blocks);
            self.blocks += 1;
            chunk.iter_mut().zip(block).for_each(|(to, from)| *to = from);
        }
    }

    /// Two numbers that are always the same, for a guest's hash maps.
    pub(super) fn hash_seed(&self) -> (u64, u64) {
        halves(self.block(b"hash", 0))
    }

    /// A version 7 UUID (RFC 9562) as big-endian halves: the unit's time, then a random number
    /// that goes up by one, so that ids ascend.
    pub(super) fn id(&mut self, now_us: i64) -> (u64, u64) {
        let (first, second) = halves(self.block(b"ids", 0));
        // 73 of 74 bits, so that counting up never runs over.
        let start = (u128::from(first & 0x1ff) << 64) | u128::from(second);
        let number = start + u128::from(self.ids);
        self.ids += 1;
        let milliseconds = u64::try_from(now_us.max(0) / 1_000).unwrap_or(0);
        let (upper, lower) = (number >> 62, number & ((1 << 62) - 1));
        let high =
            ((milliseconds & 0xffff_ffff_ffff) << 16) | 0x7000 | u64::try_from(upper & 0xfff).unwrap_or(0);
        (high, (0b10 << 62) | u64::try_from(lower).unwrap_or(0))
    }

    fn block(&self, purpose: &[u8], number: u64) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(purpose);
        hash.update(number.to_be_bytes());
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
        let bytes = |seed: u8| {
            let mut buffer = [0; 70];
            Randomness::new([seed; 32]).fill(&mut buffer);
            buffer
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
        assert_ne!(bytes(1).first_chunk::<32>(), bytes(1).last_chunk::<32>());
        assert_ne!(Randomness::new([1; 32]).id(0), Randomness::new([2; 32]).id(0));
    }
}
