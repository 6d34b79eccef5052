//! Who leads a database: one host runs its relay and its timers. A lease of slot 0, renewed well
//! before it ends and checked on a clock that also counts while the machine is suspended.

use std::time::Duration;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use sqlx::PgExecutor;

/// How long a lease lasts after its last renewal; a successor waits that long after a crash.
pub(super) const LEASE: Duration = Duration::from_secs(2);
/// How often it is renewed, and tried for by the others.
pub(super) const RENEWAL: Duration = Duration::from_millis(500);

/// The right to publish what a database has committed, until its end.
#[derive(Debug)]
pub(super) struct Lease {
    epoch: i64,
    ends: Duration,
    /// Whether other hosts run lanes on this database.
    pub(super) others: bool,
}

fn boot_clock() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

const OTHERS: &str =
    "EXISTS (SELECT FROM saga.lane o WHERE o.slot > 0 AND o.owner <> $1 AND o.lease_expires_at > now())";

impl Lease {
    /// Takes the lead when nobody holds it.
    pub(super) async fn take(database: impl PgExecutor<'_>, owner: &str) -> anyhow::Result<Option<Self>> {
        let asked = boot_clock();
        let taken: Option<(i64, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane
                SET owner = $1, lease_expires_at = now() + $2 * interval '1 ms',
                    epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
              WHERE slot = 0 AND (lease_expires_at < now() OR owner = $1)
              RETURNING epoch, {OTHERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
        .fetch_optional(database)
        .await
        .context("asking for the lead of the relay")?;
        Ok(taken.map(|(epoch, others)| Self { epoch, ends: asked + LEASE, others }))
    }

    /// Keeps the lead; false when another host has it.
    pub(super) async fn renew(&mut self, database: impl PgExecutor<'_>, owner: &str) -> anyhow::Result<bool> {
        let asked = boot_clock();
        let others: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "UPDATE saga.lane SET lease_expires_at = now() + $2 * interval '1 ms'
              WHERE slot = 0 AND epoch = $3 AND owner = $1 RETURNING {OTHERS}"
        )))
        .bind(owner)
        .bind(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
        .bind(self.epoch)
        .fetch_optional(database)
        .await
        .context("renewing the lead of the relay")?;
        let Some(others) = others else { return Ok(false) };
        self.ends = asked + LEASE;
        self.others = others;
        Ok(true)
    }

    /// Lets another host take the lead at once.
    pub(super) async fn release(self, database: impl PgExecutor<'_>) -> anyhow::Result<()> {
        sqlx::query("UPDATE saga.lane SET lease_expires_at = '-infinity' WHERE slot = 0 AND epoch = $1")
            .bind(self.epoch)
            .execute(database)
            .await
            .context("giving up the lead of the relay")
            .map(drop)
    }

    /// Whether it still holds; to be asked before each send.
    pub(super) fn holds(&self) -> bool {
        boot_clock() < self.ends
    }
}
