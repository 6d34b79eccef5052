//! How a plugin's versions replace each other.

use serde::Deserialize;

/// Which version handles the sagas in flight after another version is activated.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum InFlight {
    /// Each stays with the version that started it.
    #[default]
    Pin,
    /// The active version handles them.
    Move,
}

/// How a new version is rolled out, and when the rollback guard rolls it back.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutPolicy {
    /// Which version handles the sagas in flight.
    pub in_flight: InFlight,
    /// Seconds of draining after which the host logs a warning.
    pub drain_s_max: u32,
    /// Consecutive deliveries or requests that fail alone, after which the host rolls back to the previous
    /// version. 0 disables the rollback guard.
    pub failures_in_a_row_max: u32,
    /// Seconds after its activation in which a version can be rolled back. Later failures never roll it back.
    pub probation_s: u32,
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self { in_flight: InFlight::Pin, drain_s_max: 86_400, failures_in_a_row_max: 5, probation_s: 600 }
    }
}
