//! Maintenance that the leader does for its database: creates and drops the partitions of tables by day.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Database, roll_partitions};

const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(3_600);
/// Pause after a failure. Partitions are created a week ahead, so there is time for many retries.
const MAINTENANCE_RETRY_PAUSE: Duration = Duration::from_secs(60);

/// The schedule of maintenance. Provisioning a plugin does the same, but does not insist on it, so the first run
/// comes soon.
#[derive(Debug)]
pub(super) struct Maintenance {
    next_at: Instant,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { next_at: Instant::now() + MAINTENANCE_RETRY_PAUSE }
    }
}

impl Maintenance {
    /// Runs maintenance when it is due. Logs a failure and retries it after a pause.
    pub(super) async fn run_if_due(&mut self, database: &Database) {
        if Instant::now() < self.next_at {
            return;
        }
        self.next_at = Instant::now() + MAINTENANCE_INTERVAL;
        if let Err(error) = roll_partitions(&database.admin).await {
            tracing::warn!(
                database = database.name,
                reason = %error,
                "cannot create or drop the table partitions, retrying in {MAINTENANCE_RETRY_PAUSE:?}"
            );
            self.next_at = Instant::now() + MAINTENANCE_RETRY_PAUSE;
        }
    }
}
