//! Stops a new version that fails again and again: lanes count, and when it is enough they tell the host, which puts the
//! version before back. A version that has proved itself is never taken away: what fails it then is not what was
//! deployed.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc::UnboundedSender;

use crate::service::{Active, Service};

/// A version to be taken away.
#[derive(Clone, Debug)]
pub struct Trip {
    /// The plugin.
    pub plugin: String,
    /// Digest of the version.
    pub digest: String,
    /// How it failed last, with how often.
    pub reason: String,
}

/// Where lanes tell of it.
pub type Trips = UnboundedSender<Trip>;

/// Notes a delivery or request that failed alone, by the plugin's fault.
pub(super) fn failed(service: &Service, reason: &str) {
    let active = service.active.load();
    active.counters.errors.fetch_add(1, Ordering::Relaxed);
    let in_a_row = active.counters.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
    let most = active.version.policy.rollout.failures_in_a_row_max;
    if in_a_row == most && on_probation(&active) {
        let reason = format!("{most} deliveries failed in a row, the last with: {reason}");
        let trip = Trip { plugin: service.name.clone(), digest: active.version.digest.clone(), reason };
        // Nobody listens when the host stops.
        let _stopping = service.trips.send(trip);
    }
}

/// Notes a unit that was committed.
pub(super) fn succeeded(active: &Active) {
    active.counters.failures_in_a_row.store(0, Ordering::Relaxed);
}

fn on_probation(active: &Active) -> bool {
    let probation = Duration::from_secs(u64::from(active.version.policy.rollout.probation_s));
    active.since.elapsed().is_ok_and(|since| since < probation)
}
