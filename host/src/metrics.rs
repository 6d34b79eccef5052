//! Histograms of durations, and what plugins ignored. Each is next to the code that observes it; the host API
//! encodes them when Prometheus scrapes it.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
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

/// How many deliveries one plugin ignored, by the reason that it gave.
#[derive(Debug, Default)]
pub struct IgnoredDeliveries(Mutex<BTreeMap<String, u64>>);

/// Reasons that are counted apart, at most: a plugin can put anything into them.
const REASONS_MAX: usize = 50;
const OTHER_REASONS: &str = "other";

impl IgnoredDeliveries {
    /// Counts deliveries of a committed unit.
    pub fn add<'a>(&self, reasons: impl Iterator<Item = &'a str>) {
        for reason in reasons {
            let mut counts = self.0.lock();
            if let Some(count) = counts.get_mut(reason) {
                *count += 1;
                continue;
            }
            let name = if counts.len() < REASONS_MAX { reason } else { OTHER_REASONS };
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Each reason with its count.
    #[must_use]
    pub fn by_reason(&self) -> Vec<(String, u64)> {
        self.0.lock().iter().map(|(reason, count)| (reason.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{IgnoredDeliveries, OTHER_REASONS, REASONS_MAX, SagaDurations};

    #[test]
    fn ignored_deliveries_are_counted_by_a_limited_number_of_reasons() {
        let ignored = IgnoredDeliveries::default();
        ignored.add(["late", "unknown", "late"].into_iter());
        assert_eq!(ignored.by_reason(), [("late".to_owned(), 2), ("unknown".to_owned(), 1)]);
        let many: Vec<String> = (0..REASONS_MAX + 5).map(|number| format!("reason {number}")).collect();
        ignored.add(many.iter().map(String::as_str));
        let counts = ignored.by_reason();
        let others = counts.iter().find(|(reason, _)| reason == OTHER_REASONS).map(|(_, count)| *count);
        assert_eq!((counts.len(), others), (REASONS_MAX + 1, Some(7)));
    }

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
