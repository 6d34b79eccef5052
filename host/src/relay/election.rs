//! Elects one leader per database: the host that runs its relay and its timers.
//!
//! The leader holds a lease, the row of slot 0 in `saga.lane`. It renews the lease well before the end and
//! checks it on a clock that also counts while the machine is suspended.

use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use sqlx::PgExecutor;

/// How long a lease is valid after its last renewal, hence how long a successor waits after a crash.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(2);
/// How often the leader renews the lease and the other hosts try to acquire it.
pub(super) const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_millis(500);

/// The right to publish the outbox of one database, until it expires.
#[derive(Debug)]
pub(super) struct LeaderLease {
    epoch: i64,
    /// On the clock of [`boot_time`].
    expires_at: Duration,
    /// Whether other hosts run lanes on this database.
    pub(super) has_peers: bool,
}

/// Time since boot, suspension included.
fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

const HAS_PEERS: &str =
    "EXISTS (SELECT FROM saga.lane o WHERE o.slot > 0 AND o.owner <> $1 AND o.lease_expires_at > now())";

impl LeaderLease {
    /// Acquires the lease for `owner`; none while another host holds it.
    pub(super) async fn acquire(database: impl PgExecutor<'_>, owner: &str) -> anyhow::Result<Option<Self>> {
        // Before the query, so that this host's view of the lease ends no later than the database's.
        let asked_at = boot_time();
        let acquired: Option<(i64, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane
                SET owner = $1, lease_expires_at = now() + $2 * interval '1 ms',
                    epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
              WHERE slot = 0 AND (lease_expires_at < now() OR owner = $1)
              RETURNING epoch, {HAS_PEERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE_DURATION.as_millis()).unwrap_or(i64::MAX))
        .fetch_optional(database)
        .await
        .context("acquiring the leader lease of the relay")?;
        Ok(acquired.map(|(epoch, has_peers)| Self {
            epoch,
            expires_at: asked_at + LEASE_DURATION,
            has_peers,
        }))
    }

    /// Extends the lease; false when another host has acquired it.
    pub(super) async fn renew(&mut self, database: impl PgExecutor<'_>, owner: &str) -> anyhow::Result<bool> {
        let asked_at = boot_time();
        let has_peers: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane SET lease_expires_at = now() + $2 * interval '1 ms'
              WHERE slot = 0 AND epoch = $3 AND owner = $1 RETURNING {HAS_PEERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE_DURATION.as_millis()).unwrap_or(i64::MAX))
        .bind(self.epoch)
        .fetch_optional(database)
        .await
        .context("renewing the leader lease of the relay")?;
        let Some(has_peers) = has_peers else { return Ok(false) };
        self.expires_at = asked_at + LEASE_DURATION;
        self.has_peers = has_peers;
        Ok(true)
    }

    /// Ends the lease, so that another host can acquire it at once.
    pub(super) async fn release(self, database: impl PgExecutor<'_>) -> anyhow::Result<()> {
        sqlx::query("UPDATE saga.lane SET lease_expires_at = '-infinity' WHERE slot = 0 AND epoch = $1")
            .bind(self.epoch)
            .execute(database)
            .await
            .context("releasing the leader lease of the relay")
            .map(drop)
    }

    /// Whether the lease has not expired. Check it before each send.
    pub(super) fn is_valid(&self) -> bool {
        boot_time() < self.expires_at
    }
}
