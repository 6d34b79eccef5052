//! What the leader of a database looks after besides publishing: the partitions of the days to come.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Database, roll_partitions};

const EVERY: Duration = Duration::from_secs(3_600);
const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// When it is next time.
#[derive(Debug)]
pub(super) struct Upkeep {
    at: Instant,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { at: Instant::now() + EVERY }
    }
}

impl Upkeep {
    /// Does what is due; a failure is tried again soon, since a week is prepared ahead.
    pub(super) async fn look_after(&mut self, database: &Database) {
        if Instant::now() < self.at {
            return;
        }
        self.at = Instant::now() + EVERY;
        if let Err(error) = roll_partitions(&database.admin).await {
            tracing::warn!(database = database.name, reason = %error, "the partitions of the next days cannot be made");
            self.at = Instant::now() + AGAIN_AFTER_FAILURE;
        }
    }
}
