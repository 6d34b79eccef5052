//! A small random source with a seed, so that a run can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014): enough for choosing products and moments.
#[derive(Debug, Clone)]
pub struct Sample {
    state: u64,
}

impl Sample {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The given seed, or one from the clock.
    pub fn seed(given: Option<u64>) -> u64 {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        given.unwrap_or_else(|| clock.map_or(0, |since| since.as_secs()))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`; 0 when the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.draw() % bound).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn a_seed_draws_a_fixed_sequence_within_its_bound() {
        let (mut a, mut b) = (Sample::new(1), Sample::new(1));
        let mut seen = [false; 10];
        for _ in 0..1000 {
            let value = a.below(10);
            assert_eq!(value, b.below(10));
            seen[value] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!(a.below(0), 0);
    }
}
