//! Histograms of durations. Each is next to the code that observes it, once per unit or per ended saga; the
//! host API encodes them when Prometheus scrapes it.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// From a commit on a fast disk to a statement that runs into its time-out.
const UNIT_SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// From a saga of one service to one that waits for a person.
const SAGA_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0];

/// A histogram for units and for what happens to them.
#[must_use]
pub fn unit_histogram() -> Histogram {
    Histogram::new(UNIT_SECONDS)
}

/// How long the sagas of one plugin took from start to end.
#[derive(Debug)]
pub struct SagaDurations([(&'static str, Histogram); 3]);

impl Default for SagaDurations {
    fn default() -> Self {
        Self(["completed", "compensated", "failed"].map(|ending| (ending, Histogram::new(SAGA_SECONDS))))
    }
}

impl SagaDurations {
    /// Observes a saga that ended with `ending`.
    pub fn observe(&self, ending: &str, took: Duration) {
        if let Some((_, histogram)) = self.0.iter().find(|(name, _)| *name == ending) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Each ending with its histogram.
    #[must_use]
    pub fn by_ending(&self) -> &[(&'static str, Histogram)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::SagaDurations;

    #[test]
    fn each_ending_has_a_histogram_of_its_own() {
        let durations = SagaDurations::default();
        durations.observe("compensated", Duration::from_secs(2));
        durations.observe("no such ending", Duration::from_secs(2));
        let counts: Vec<_> = durations
            .by_ending()
            .iter()
            .map(|(ending, histogram)| (*ending, format!("{histogram:?}").contains("count: 1,")))
            .collect();
        assert_eq!(counts, [("completed", false), ("compensated", true), ("failed", false)]);
    }
}
