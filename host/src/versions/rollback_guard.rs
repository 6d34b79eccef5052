//! Stops a new version that fails again and again: lanes count, and when it is enough they tell the host,
//! which puts the version before back. A version that has proved itself is never taken away: what fails it
//! then is not what was deployed.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::running::{Counters, Running};
use crate::rollout::service::Service;

/// A version to be taken away.
#[derive(Clone, Debug)]
pub struct Trip {
    /// The plugin.
    pub plugin: String,
    /// Digest of the version.
    pub digest: String,
    /// Of the activation under which it failed.
    pub generation: i64,
    /// How it failed last, with how often.
    pub reason: String,
}

/// Where lanes tell of it.
pub type Trips = UnboundedSender<Trip>;

/// What a lane counts: what fails in one lane is not made good by the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Deliveries,
    Requests,
}

impl Kind {
    fn failed(self, counters: &Counters) -> &AtomicU32 {
        match self {
            Self::Deliveries => &counters.failed_deliveries,
            Self::Requests => &counters.failed_requests,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Requests => "requests",
        }
    }
}

/// Notes one that failed alone, by the plugin's fault, at its first attempt: one that no version can handle
/// comes again and again.
pub(crate) fn failed(service: &Service, version: &Running, kind: Kind, reason: &str) {
    let most = version.version.policy.rollout.failures_in_a_row_max;
    let in_a_row = kind.failed(&version.counters).fetch_add(1, Ordering::Relaxed) + 1;
    if most > 0 && in_a_row.is_multiple_of(most) && on_probation(version) {
        let reason = format!("{in_a_row} {} failed in a row, the last with: {reason}", kind.name());
        let Running { generation, version, .. } = version;
        let trip = Trip {
            plugin: service.name.clone(),
            digest: version.digest.clone(),
            generation: *generation,
            reason,
        };
        // Nobody listens when the host stops.
        let _stopping = service.trips.send(trip);
    }
}

/// Notes a unit that was committed.
pub(crate) fn succeeded(version: &Running, kind: Kind) {
    kind.failed(&version.counters).store(0, Ordering::Relaxed);
}

/// The time is Postgres's, whose clock may be ahead.
fn on_probation(version: &Running) -> bool {
    let probation = Duration::from_secs(u64::from(version.version.policy.rollout.probation_s));
    version.first_since.elapsed().map_or(true, |since| since < probation)
}
