//! The latencies of one measurement. All are kept, so percentiles are exact.

use std::time::Duration;

use serde::Serialize;

/// Measured latencies, in microseconds.
#[derive(Debug, Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

/// The figures that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: usize,
    /// Median, in ms.
    pub p50_ms: f64,
    /// 99 of 100 are not above it, in ms.
    pub p99_ms: f64,
    /// The longest, in ms.
    pub max_ms: f64,
}

impl Latencies {
    /// Adds one. Anything above 71 minutes counts as 71 minutes.
    pub fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds the latencies of another measurement.
    pub fn join(&mut self, mut other: Self) {
        self.micros.append(&mut other.micros);
    }

    /// Percentiles by nearest rank; all zero when nothing was measured.
    #[must_use]
    pub fn summary(mut self) -> Summary {
        self.micros.sort_unstable();
        let rank = |percent: usize| {
            let index = (self.micros.len() * percent).div_ceil(100).saturating_sub(1);
            self.micros.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        Summary { count: self.micros.len(), p50_ms: rank(50), p99_ms: rank(99), max_ms: rank(100) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latencies, Summary};

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut latencies = Latencies::default();
        for ms in (1..=200).rev() {
            latencies.add(Duration::from_millis(ms));
        }
        assert_eq!(latencies.summary(), Summary { count: 200, p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 });
        assert_eq!(
            Latencies::default().summary(),
            Summary { count: 0, p50_ms: 0.0, p99_ms: 0.0, max_ms: 0.0 }
        );
        let mut one = Latencies::default();
        one.add(Duration::from_micros(1500));
        assert_eq!(one.summary(), Summary { count: 1, p50_ms: 1.5, p99_ms: 1.5, max_ms: 1.5 });
    }
}
