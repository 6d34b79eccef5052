//! Claims of partitions. The row in `saga.partition_claim` is the only truth about offsets. Claiming a
//! partition raises its epoch, which fences every earlier claim.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use sqlx::PgPool;

use crate::{
    model::dedup::DedupMarks,
    sabotage::{self, Switch},
    store::{Database, PluginRole},
};

/// A partition that this host has claimed for a plugin.
#[derive(Clone, Debug)]
pub struct PartitionClaim {
    /// Row of `saga.partition_claim`.
    pub id: i32,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Of this claim.
    pub epoch: i64,
    /// The next record to handle.
    pub next_offset: i64,
    /// The same as the database has it. It is lower after repeats: a position that only passes repeats is noted
    /// here, and stored with the next unit, or after a while.
    pub stored_offset: i64,
    /// High-water marks of the streams that saga-host itself publishes.
    pub dedup_marks: DedupMarks,
    /// Parked deliveries by key: later ones of the key queue behind them.
    pub parked: HashMap<String, u32>,
}

impl PartitionClaim {
    /// Whether its position is not stored yet.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        self.next_offset != self.stored_offset
    }
}

/// The offset of a partition that the plugin has never read.
const UNKNOWN_OFFSET: i64 = -1;
const POSITION_BEHIND: &str = "UPDATE saga.partition_claim SET next_offset = greatest(next_offset - 5, 0),
    dedup_marks = '' WHERE topic = $1 AND partition = $2 AND next_offset > 0";

/// Claims a partition; `next_offset` is negative when the plugin has never read it.
///
/// # Errors
/// When Postgres is unreachable, or the row was not written by a saga-host.
pub async fn claim_partition(
    database: &Database,
    role: &PluginRole,
    topic: &str,
    partition: i32,
) -> anyhow::Result<PartitionClaim> {
    if sabotage::on(Switch::PositionBehind) {
        sqlx::query(POSITION_BEHIND).bind(topic).bind(partition).execute(&database.admin).await?;
    }
    let (id, epoch, next_offset, dedup_marks): (i32, i64, i64, String) = sqlx::query_as(
        "INSERT INTO saga.partition_claim AS c (plugin, role, topic, partition, epoch, next_offset)
         VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $5)
         ON CONFLICT (plugin, topic, partition) DO UPDATE
            SET role = excluded.role, epoch = greatest(c.epoch + 1, excluded.epoch)
         RETURNING id, epoch, next_offset, dedup_marks",
    )
    .bind(&role.plugin)
    .bind(&role.name)
    .bind(topic)
    .bind(partition)
    .bind(UNKNOWN_OFFSET)
    .fetch_one(&database.admin)
    .await
    .with_context(|| format!("claiming {topic}/{partition}"))?;
    let dedup_marks = DedupMarks::from_text(&dedup_marks).with_context(|| {
        format!(
            "{topic}/{partition} is not read: saga.partition_claim.dedup_marks of row {id} in the database {} \
             is damaged. Correct it: one line IDENTITY:slot:epoch:unit:index for each stream. Without a stream's \
             line, a record that is sent again is handled again",
            database.name
        )
    })?;
    let parked = parked_keys(&database.admin, &role.plugin, topic, partition).await?;
    let (topic, stored_offset) = (Arc::from(topic), next_offset);
    Ok(PartitionClaim { id, topic, partition, epoch, next_offset, stored_offset, dedup_marks, parked })
}

/// How many deliveries of each key of a partition are parked.
///
/// # Errors
/// When Postgres is unreachable.
pub async fn parked_keys(
    pool: &PgPool,
    plugin: &str,
    topic: &str,
    partition: i32,
) -> anyhow::Result<HashMap<String, u32>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT key, count(*) FROM saga.parked
          WHERE plugin = $1 AND direction = 'in' AND topic = $2 AND partition = $3 AND key IS NOT NULL
          GROUP BY key",
    )
    .bind(plugin)
    .bind(topic)
    .bind(partition)
    .fetch_all(pool)
    .await
    .with_context(|| format!("reading the parked keys of {topic}/{partition}"))?;
    Ok(rows.into_iter().map(|(key, count)| (key, u32::try_from(count).unwrap_or(u32::MAX))).collect())
}
