//! The lease of a lane: a slot that one host at a time may write under. Whoever claims it last raises the
//! epoch, which fences everyone before.

use anyhow::Context;
use sqlx::PgPool;

use crate::store::{Database, PluginRole};

/// A lane's place in its chain of units.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Row of `saga.lane`.
    pub slot: i32,
    /// Raised by every claim.
    pub epoch: i64,
    /// Units committed under this epoch.
    pub unit: i64,
    /// Only the host knows it, never the guest: `close` asks for it.
    pub token: Vec<u8>,
}

/// How long a lane's slot is kept after its last unit or renewal.
pub const LEASE_MS: u32 = 10_000;

const EPOCH: &str = "greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// Claims a free slot for a lane of `kind` (`kafka` or `http`), or makes one.
///
/// # Errors
/// When Postgres is away.
pub async fn claim_slot(
    database: &Database,
    role: &PluginRole,
    kind: &str,
    owner: &str,
) -> anyhow::Result<Chain> {
    let token = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    let claimed: Option<(i32, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "UPDATE saga.lane SET plugin = $1, role = $2, kind = $3, owner = $4, token = $5, unit = 0, epoch = {EPOCH},
                lease_until = now() + $6 * interval '1 ms'
          WHERE slot = (SELECT slot FROM saga.lane WHERE slot > 0 AND lease_until < now()
                         ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED)
          RETURNING slot, epoch"
    )))
    .bind(&role.plugin)
    .bind(&role.name)
    .bind(kind)
    .bind(owner)
    .bind(&token)
    .bind(LEASE_MS.cast_signed())
    .fetch_optional(&database.admin)
    .await
    .context("claiming a lane")?;
    let (slot, epoch) = match claimed {
        Some(claimed) => claimed,
        None => make_slot(&database.admin, role, kind, owner, &token).await?,
    };
    Ok(Chain { slot, epoch, unit: 0, token })
}

async fn make_slot(
    pool: &PgPool,
    role: &PluginRole,
    kind: &str,
    owner: &str,
    token: &[u8],
) -> anyhow::Result<(i32, i64)> {
    loop {
        let made = sqlx::query_as(
            "INSERT INTO saga.lane (slot, plugin, role, kind, owner, epoch, unit, token, lease_until)
             SELECT max(slot) + 1, $1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0, $5,
                    now() + $6 * interval '1 ms' FROM saga.lane
             ON CONFLICT DO NOTHING RETURNING slot, epoch",
        )
        .bind(&role.plugin)
        .bind(&role.name)
        .bind(kind)
        .bind(owner)
        .bind(token)
        .bind(LEASE_MS.cast_signed())
        .fetch_optional(pool)
        .await
        .context("making a lane")?;
        if let Some(made) = made {
            return Ok(made);
        }
    }
}

/// Keeps an idle lane's slot.
///
/// # Errors
/// When Postgres is away. That the slot is lost shows at the next unit.
pub async fn renew_slot(pool: &PgPool, chain: &Chain) -> anyhow::Result<()> {
    sqlx::query(
        "UPDATE saga.lane SET lease_until = now() + $1 * interval '1 ms' WHERE slot = $2 AND epoch = $3",
    )
    .bind(LEASE_MS.cast_signed())
    .bind(chain.slot)
    .bind(chain.epoch)
    .execute(pool)
    .await
    .context("keeping a lane")
    .map(drop)
}

/// Lets another lane have the slot at once.
///
/// # Errors
/// When Postgres is away.
pub async fn release_slot(pool: &PgPool, chain: &Chain) -> anyhow::Result<()> {
    sqlx::query("UPDATE saga.lane SET lease_until = '-infinity' WHERE slot = $1 AND epoch = $2")
        .bind(chain.slot)
        .bind(chain.epoch)
        .execute(pool)
        .await
        .context("giving up a lane")
        .map(drop)
}

/// Where the chain stands in the database: tells whether a COMMIT without an answer took place.
/// Waits for a transaction that still holds the row.
///
/// # Errors
/// When Postgres is away.
pub async fn standing(pool: &PgPool, chain: &Chain) -> anyhow::Result<Option<(i64, i64)>> {
    let mut transaction = pool.begin().await.context("asking where a lane stands")?;
    sqlx::query_as("SELECT epoch, unit FROM saga.lane WHERE slot = $1 FOR UPDATE")
        .bind(chain.slot)
        .fetch_optional(&mut *transaction)
        .await
        .context("asking where a lane stands")
}
