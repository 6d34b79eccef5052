//! Stops a new version that fails again and again. Lanes count its failures in a row; at the limit they
//! request a rollback to the previous version. A version whose probation has ended is never rolled back: then
//! the deployment is not what causes the failures.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::running::{Counters, Running};

/// Requests a rollback to the previous version.
#[derive(Clone, Debug)]
pub struct RollbackRequest {
    /// The plugin.
    pub plugin: String,
    /// Digest of the version that fails.
    pub digest: String,
    /// Generation of the activation under which it failed.
    pub generation: i64,
    /// How many failed in a row, and why the last one did.
    pub reason: String,
}

/// Where lanes send rollback requests.
pub type RollbackRequests = UnboundedSender<RollbackRequest>;

/// The lane that counts: a success in one lane does not reset the failures of the other.
#[derive(Clone, Copy, Debug)]
pub enum LaneKind {
    /// Deliveries from Kafka, timers and deadlines.
    Deliveries,
    /// HTTP requests.
    Requests,
}

impl LaneKind {
    fn failures(self, counters: &Counters) -> &AtomicU32 {
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

/// Counts a delivery or request that failed alone, by the plugin's fault, at its first attempt. Retries do
/// not count: a delivery that no version can handle fails at each of them.
pub(super) fn failed(
    plugin: &str,
    requests: &RollbackRequests,
    version: &Running,
    kind: LaneKind,
    reason: &str,
) {
    let most = version.version.policy.rollout.failures_in_a_row_max;
    let in_a_row = kind.failures(&version.counters).fetch_add(1, Ordering::Relaxed) + 1;
    if most > 0 && in_a_row.is_multiple_of(most) && on_probation(version) {
        let reason = format!("{in_a_row} {} failed in a row, the last with: {reason}", kind.name());
        let Running { generation, version, .. } = version;
        let digest = version.digest.clone();
        let request = RollbackRequest { plugin: plugin.to_owned(), digest, generation: *generation, reason };
        // The receiver is gone only when the host stops.
        let _stopping = requests.send(request);
    }
}

/// Resets the failures in a row after a committed unit.
pub(crate) fn succeeded(version: &Running, kind: LaneKind) {
    kind.failures(&version.counters).store(0, Ordering::Relaxed);
}

/// Whether the version is on probation. The clock of Postgres, which sets `first_since`, may be ahead of this
/// one; then it is.
fn on_probation(version: &Running) -> bool {
    let probation = Duration::from_secs(u64::from(version.version.policy.rollout.probation_s));
    version.first_since.elapsed().map_or(true, |since| since < probation)
}
