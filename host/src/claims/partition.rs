//! Claims of partitions: the database is the truth about positions. Whoever claims last raises the epoch;
//! everyone before is fenced.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::dedup::Seen,
    store::{Database, PluginRole},
};

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
