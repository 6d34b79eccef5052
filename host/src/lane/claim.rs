//! Claims: a lane's slot and the partitions that it reads. Whoever claims last raises the epoch;
//! everyone before is fenced. The database is the truth about positions.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::dedup::Seen,
    store::{Database, PluginRole},
    unit::open::Chain,
};

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

/// A partition that this host has claimed.
#[derive(Clone, Debug)]
pub struct Source {
    /// Row of `saga.source`.
    pub id: i32,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Of this claim.
    pub epoch: i64,
    /// The next record to handle.
    pub next_offset: i64,
    /// High-water marks of our own streams.
    pub seen: Seen,
    /// Held deliveries by key: later ones of the key queue behind them.
    pub held: HashMap<String, u32>,
}

/// A position that no source has had yet.
const UNKNOWN_OFFSET: i64 = -1;

/// Claims a partition; `next_offset` is negative when the plugin has never read it.
///
/// # Errors
/// When Postgres is away, or what it holds was not written by a saga-host.
pub async fn claim_source(
    database: &Database,
    role: &PluginRole,
    topic: &str,
    partition: i32,
) -> anyhow::Result<Source> {
    let (id, epoch, next_offset, seen): (i32, i64, i64, String) = sqlx::query_as(
        "INSERT INTO saga.source AS s (plugin, role, topic, partition, epoch, next_offset)
         VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $5)
         ON CONFLICT (plugin, topic, partition) DO UPDATE
            SET role = excluded.role, epoch = greatest(s.epoch + 1, excluded.epoch)
         RETURNING id, epoch, next_offset, seen",
    )
    .bind(&role.plugin)
    .bind(&role.name)
    .bind(topic)
    .bind(partition)
    .bind(UNKNOWN_OFFSET)
    .fetch_one(&database.admin)
    .await
    .with_context(|| format!("claiming {topic}/{partition}"))?;
    let seen = Seen::from_text(&seen)
        .with_context(|| format!("saga.source.seen of {topic}/{partition} is damaged"))?;
    let held = held_keys(&database.admin, &role.plugin, topic, partition).await?;
    Ok(Source { id, topic: Arc::from(topic), partition, epoch, next_offset, seen, held })
}

/// Fixes the position of a source that had none, under this claim.
///
/// # Errors
/// When Postgres is away.
pub async fn begin_source(pool: &PgPool, source: &mut Source, offset: i64) -> anyhow::Result<()> {
    sqlx::query("UPDATE saga.source SET next_offset = $1 WHERE id = $2 AND epoch = $3 AND next_offset = $4")
        .bind(offset)
        .bind(source.id)
        .bind(source.epoch)
        .bind(UNKNOWN_OFFSET)
        .execute(pool)
        .await
        .with_context(|| format!("setting the first position of {}/{}", source.topic, source.partition))?;
    source.next_offset = offset;
    Ok(())
}

/// How many deliveries of each key of a partition are held.
///
/// # Errors
/// When Postgres is away.
pub async fn held_keys(
    pool: &PgPool,
    plugin: &str,
    topic: &str,
    partition: i32,
) -> anyhow::Result<HashMap<String, u32>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT key, count(*) FROM saga.held
          WHERE plugin = $1 AND direction = 'in' AND topic = $2 AND partition = $3 AND key IS NOT NULL GROUP BY key",
    )
    .bind(plugin)
    .bind(topic)
    .bind(partition)
    .fetch_all(pool)
    .await
    .with_context(|| format!("reading what is held of {topic}/{partition}"))?;
    Ok(rows.into_iter().map(|(key, count)| (key, u32::try_from(count).unwrap_or(u32::MAX))).collect())
}
