//! The statements of `saga.outbox`, and of the held records that Kafka refused.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use sqlx::PgConnection;

use super::order::Records;
use crate::model::record::{Record, decode, encode};

/// Rows read at once.
pub(super) const SNAPSHOT_ROWS_MAX: i64 = 500;

/// A unit as the outbox has it.
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) records: Records,
    /// Places of records that are held instead of being sent.
    pub(super) held: Vec<usize>,
}

/// The unpublished units by `seq`, at most [`SNAPSHOT_ROWS_MAX`], without those in flight.
pub(super) async fn unpublished(database: &mut PgConnection, in_flight: &[i64]) -> anyhow::Result<Vec<Row>> {
    let rows: Vec<(i64, Vec<u8>, Vec<i32>)> = sqlx::query_as(
        "SELECT seq, body, parked_indexes FROM saga.outbox WHERE seq <> ALL ($1) ORDER BY seq LIMIT $2",
    )
    .bind(in_flight)
    .bind(SNAPSHOT_ROWS_MAX)
    .fetch_all(database)
    .await
    .context("reading the outbox")?;
    rows.into_iter()
        .map(|(seq, body, held)| {
            let records =
                decode(&body).with_context(|| format!("outbox row {seq} is not of this version"))?;
            let held = held.into_iter().filter_map(|index| usize::try_from(index).ok()).collect();
            Ok(Row { seq, records: Arc::new(records), held })
        })
        .collect()
}

/// Forgets units that Kafka has acknowledged. Lost with the machine they are sent again, so it
/// need not wait for the disk.
pub(super) async fn forget(database: &mut PgConnection, acknowledged: &[i64]) -> anyhow::Result<()> {
    sqlx::query(
        "WITH soon AS (SELECT set_config('synchronous_commit', 'off', true))
         DELETE FROM saga.outbox USING soon WHERE seq = ANY ($1)",
    )
    .bind(acknowledged)
    .execute(database)
    .await
    .context("clearing the outbox")
    .map(drop)
}

/// Takes a record out of what is sent and keeps it for a person to see, both at once and only once.
pub(super) async fn hold(
    database: &mut PgConnection,
    seq: i64,
    index: usize,
    record: &Record,
    reason: &str,
) -> anyhow::Result<()> {
    let body = encode(std::slice::from_ref(record)).context("encoding a refused record")?;
    sqlx::query(
        "WITH taken AS (
             UPDATE saga.outbox SET parked_indexes = array_append(parked_indexes, $1) WHERE seq = $2 AND NOT ($1 = ANY (parked_indexes)) RETURNING seq)
         INSERT INTO saga.parked (direction, plugin, topic, partition, position, key, body, reason, attempts)
         SELECT 'out', $3, $4, $5, $6, $7, $8, $9, 1 FROM taken",
    )
    .bind(i32::try_from(index).unwrap_or(i32::MAX))
    .bind(seq)
    .bind(record.plugin())
    .bind(&record.topic)
    .bind(record.partition)
    .bind(position(seq, index))
    .bind(record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()))
    .bind(body)
    .bind(reason)
    .execute(database)
    .await
    .context("holding a refused record")
    .map(drop)
}

/// The order of records within a database: by unit, then by place in it.
pub(super) fn position(seq: i64, index: usize) -> i64 {
    (seq << 16) | i64::try_from(index & 0xffff).unwrap_or(0)
}

/// What is held of this database: for each topic and key the position of its first record.
pub(super) async fn held(database: &mut PgConnection) -> anyhow::Result<HashMap<(String, String), i64>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT topic, key, min(position) FROM saga.parked WHERE direction = 'out' AND key IS NOT NULL GROUP BY topic, key",
    )
    .fetch_all(database)
    .await
    .context("reading the held records")?;
    Ok(rows.into_iter().map(|(topic, key, position)| ((topic, key), position)).collect())
}
