//! The lease of a lane: the right of one lane of one host to commit units under a slot. Acquiring it raises
//! the epoch, which fences every earlier holder. Units are fenced by (epoch, unit); `saga.flush` also asks
//! for the token.

use std::time::Instant;

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::{format::Format, identity::Identity},
    store::{Database, PluginRole, confirm_identity},
};

/// A lane's lease, with its fencing token.
#[derive(Clone, Debug)]
pub struct LaneLease {
    /// Row of `saga.lane`.
    pub slot: i32,
    /// Raised by every acquisition.
    pub epoch: i64,
    /// Units committed under this epoch.
    pub unit: i64,
    /// Random; known to the host alone, never to a guest.
    pub token: Vec<u8>,
    /// Of the database. A new one ends the lease.
    pub identity: Identity,
    /// When it was acquired, by the clock of this process.
    pub acquired_at: Instant,
}

/// How long a lease lasts after its last unit or renewal.
pub const LEASE_MS: u32 = 10_000;

/// Ascends even when the clock steps back.
const NEXT_EPOCH: &str = "greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

impl LaneLease {
    /// Acquires a free slot for a lane of `kind` (`kafka` or `http`) of the host `owner`, or adds one.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn acquire(
        database: &Database,
        role: &PluginRole,
        kind: &str,
        owner: &str,
    ) -> anyhow::Result<Self> {
        let token = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
        let free = take_free_slot(&database.admin, role, kind, owner, &token).await?;
        let (slot, epoch) = match free {
            Some(taken) => taken,
            None => add_slot(&database.admin, role, kind, owner, &token).await?,
        };
        // After the slot: if the identity changes later, the slot is lost with it.
        let confirmed = confirm_identity(&database.admin, &database.name).await;
        let identity = confirmed.context("reading the identity of the database")?;
        Ok(Self { slot, epoch, unit: 0, token, identity, acquired_at: Instant::now() })
    }

    /// The time of the database, milliseconds since 1970: the epoch is the time at which the lease was
    /// acquired.
    #[must_use]
    pub fn database_now_ms(&self) -> i64 {
        let since = i64::try_from(self.acquired_at.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.epoch.saturating_add(since)
    }

    /// Extends the lease of an idle lane. Returns false when it is lost, or when the database has lost units.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn renew(&self, pool: &PgPool) -> anyhow::Result<bool> {
        let renewed = sqlx::query(
            "UPDATE saga.lane SET lease_expires_at = now() + $1 * interval '1 ms'
              WHERE slot = $2 AND epoch = $3 AND unit = $4",
        )
        .bind(LEASE_MS.cast_signed())
        .bind(self.slot)
        .bind(self.epoch)
        .bind(self.unit)
        .execute(pool)
        .await
        .context("renewing a lane lease")?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Ends the lease, so that another lane can acquire the slot at once.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn release(&self, pool: &PgPool) -> anyhow::Result<()> {
        sqlx::query("UPDATE saga.lane SET lease_expires_at = '-infinity' WHERE slot = $1 AND epoch = $2")
            .bind(self.slot)
            .bind(self.epoch)
            .execute(pool)
            .await
            .context("releasing a lane lease")
            .map(drop)
    }

    /// Whether the database has all units that were committed under this lease. False also when it cannot be
    /// known: another lane has taken the slot.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn units_are_stored(&self, pool: &PgPool) -> anyhow::Result<bool> {
        let stored: Option<i64> =
            sqlx::query_scalar("SELECT unit FROM saga.lane WHERE slot = $1 AND token = $2")
                .bind(self.slot)
                .bind(&self.token)
                .fetch_optional(pool)
                .await
                .context("reading the units of a lane")?;
        Ok(stored.is_some_and(|unit| unit >= self.unit))
    }

    /// The slot's (epoch, unit) as the database has it: whether a COMMIT without an answer took place.
    /// Waits for a transaction that still has the row locked.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn stored_position(&self, pool: &PgPool) -> anyhow::Result<Option<(i64, i64)>> {
        let mut transaction = pool.begin().await.context("reading the position of a lane")?;
        sqlx::query_as("SELECT epoch, unit FROM saga.lane WHERE slot = $1 FOR UPDATE")
            .bind(self.slot)
            .fetch_optional(&mut *transaction)
            .await
            .context("reading the position of a lane")
    }
}

/// Slot and epoch of a lane whose lease has run out, taken over; none when no slot is free.
async fn take_free_slot(
    pool: &PgPool,
    role: &PluginRole,
    kind: &str,
    owner: &str,
    token: &[u8],
) -> anyhow::Result<Option<(i32, i64)>> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "UPDATE saga.lane SET plugin = $1, role = $2, kind = $3, owner = $4, token = $5, unit = 0,
                epoch = {NEXT_EPOCH}, reads_format = $7, reads_owner = $4,
                lease_expires_at = now() + $6 * interval '1 ms'
          WHERE slot = (SELECT slot FROM saga.lane WHERE slot > 0 AND lease_expires_at < now()
                         ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED)
          RETURNING slot, epoch"
    )))
    .bind(&role.plugin)
    .bind(&role.name)
    .bind(kind)
    .bind(owner)
    .bind(token)
    .bind(LEASE_MS.cast_signed())
    .bind(Format::newest().number())
    .fetch_optional(pool)
    .await
    .context("acquiring a lane lease")
}

/// Slot and epoch of a new row. Two hosts may choose the same number: the later one tries the next.
async fn add_slot(
    pool: &PgPool,
    role: &PluginRole,
    kind: &str,
    owner: &str,
    token: &[u8],
) -> anyhow::Result<(i32, i64)> {
    loop {
        let added = sqlx::query_as(
            "INSERT INTO saga.lane (slot, plugin, role, kind, owner, epoch, unit, token, lease_expires_at,
                                    reads_format, reads_owner)
             SELECT max(slot) + 1, $1, $2, $3, $4,
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0, $5,
                    now() + $6 * interval '1 ms', $7, $4 FROM saga.lane
             ON CONFLICT DO NOTHING RETURNING slot, epoch",
        )
        .bind(&role.plugin)
        .bind(&role.name)
        .bind(kind)
        .bind(owner)
        .bind(token)
        .bind(LEASE_MS.cast_signed())
        .bind(Format::newest().number())
        .fetch_optional(pool)
        .await
        .context("adding a lane")?;
        if let Some(added) = added {
            return Ok(added);
        }
    }
}
