//! The statements of `saga.outbox`, and those that park the records that Kafka refused.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context;
use sqlx::PgConnection;

use super::order::Records;
use crate::model::record::{Record, decode, encode};

/// Outbox rows that one snapshot reads, at most.
pub(super) const SNAPSHOT_ROWS_MAX: i64 = 500;

/// A unit in the outbox.
pub(super) struct OutboxRow {
    pub(super) seq: i64,
    pub(super) records: Records,
    /// Indexes of the records that are parked, hence not to be sent.
    pub(super) parked: Vec<usize>,
}

/// Reads the lowest [`SNAPSHOT_ROWS_MAX`] units that are not in flight, sorted by `seq`.
pub(super) async fn read_unpublished(
    database: &mut PgConnection,
    in_flight: &[i64],
) -> anyhow::Result<Vec<OutboxRow>> {
    let rows: Vec<(i64, Vec<u8>, Vec<i32>)> = sqlx::query_as(
        "SELECT seq, body, parked_indexes FROM saga.outbox WHERE seq <> ALL ($1) ORDER BY seq LIMIT $2",
    )
    .bind(in_flight)
    .bind(SNAPSHOT_ROWS_MAX)
    .fetch_all(database)
    .await
    .context("reading the outbox")?;
    rows.into_iter()
        .map(|(seq, body, parked)| {
            let records = decode(&body)
                .with_context(|| format!("outbox row {seq} was written by an incompatible saga-host"))?;
            let parked = parked.into_iter().filter_map(|index| usize::try_from(index).ok()).collect();
            Ok(OutboxRow { seq, records: Arc::new(records), parked })
        })
        .collect()
}

/// Deletes units that Kafka has acknowledged. If a crash of the server undoes the deletion, they are sent
/// again, so the commit does not wait for the disk.
pub(super) async fn delete(database: &mut PgConnection, acknowledged: &[i64]) -> anyhow::Result<()> {
    sqlx::query(
        "WITH soon AS (SELECT set_config('synchronous_commit', 'off', true))
         DELETE FROM saga.outbox USING soon WHERE seq = ANY ($1)",
    )
    .bind(acknowledged)
    .execute(database)
    .await
    .context("deleting acknowledged units from the outbox")
    .map(drop)
}

/// Parks a record: marks it in its outbox row and keeps a copy for a person, in one statement. Parking it
/// again changes nothing.
pub(super) async fn park(
    database: &mut PgConnection,
    seq: i64,
    index: usize,
    record: &Record,
    reason: &str,
) -> anyhow::Result<()> {
    let body = encode(std::slice::from_ref(record)).context("encoding a refused record")?;
    sqlx::query(
        "WITH taken AS (
             UPDATE saga.outbox SET parked_indexes = array_append(parked_indexes, $1)
              WHERE seq = $2 AND NOT ($1 = ANY (parked_indexes)) RETURNING seq)
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
    .context("parking a record that Kafka refused")
    .map(drop)
}

/// Orders the records of a database: by unit, then by index in the unit.
pub(super) fn position(seq: i64, index: usize) -> i64 {
    (seq << 16) | i64::try_from(index & 0xffff).unwrap_or(0)
}

/// The first parked record of each (topic, key): its [`position`].
pub(super) async fn first_parked(
    database: &mut PgConnection,
) -> anyhow::Result<HashMap<(String, String), i64>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT topic, key, min(position) FROM saga.parked
          WHERE direction = 'out' AND key IS NOT NULL GROUP BY topic, key",
    )
    .fetch_all(database)
    .await
    .context("reading the parked records")?;
    Ok(rows.into_iter().map(|(topic, key, position)| ((topic, key), position)).collect())
}
