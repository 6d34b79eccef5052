//! The statements of `saga.outbox`, and of the held records that Kafka refused.

use std::sync::Arc;

use anyhow::Context;
use sqlx::PgPool;

use super::{
    order::Records,
    record::{Record, decode, encode},
};

/// Rows read at once.
pub(super) const SNAPSHOT_ROWS_MAX: i64 = 500;

/// The unpublished units by `seq`, at most [`SNAPSHOT_ROWS_MAX`], without those in flight.
pub(super) async fn unpublished(pool: &PgPool, in_flight: &[i64]) -> anyhow::Result<Vec<(i64, Records)>> {
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, body FROM saga.outbox WHERE seq <> ALL ($1) ORDER BY seq LIMIT $2")
            .bind(in_flight)
            .bind(SNAPSHOT_ROWS_MAX)
            .fetch_all(pool)
            .await
            .context("reading the outbox")?;
    rows.into_iter()
        .map(|(seq, body)| {
            Ok((seq, Arc::new(decode(&body).with_context(|| format!("outbox row {seq} is not of this version"))?)))
        })
        .collect()
}

/// Forgets units that Kafka has acknowledged. Lost with the machine they are sent again, so it
/// need not wait for the disk.
pub(super) async fn forget(pool: &PgPool, acknowledged: &[i64]) -> anyhow::Result<()> {
    let mut transaction =
        pool.begin_with("BEGIN; SET LOCAL synchronous_commit = off").await.context("clearing the outbox")?;
    sqlx::query("DELETE FROM saga.outbox WHERE seq = ANY ($1)")
        .bind(acknowledged)
        .execute(&mut *transaction)
        .await
        .context("clearing the outbox")?;
    transaction.commit().await.context("clearing the outbox")
}

/// Keeps a record that Kafka refused for a person to see, once however often it is refused.
pub(super) async fn hold(pool: &PgPool, seq: i64, index: usize, record: &Record, reason: &str) -> anyhow::Result<()> {
    let position = (seq << 16) | i64::try_from(index).unwrap_or(0);
    let body = encode(std::slice::from_ref(record)).context("encoding a refused record")?;
    sqlx::query(
        "INSERT INTO saga.held (direction, plugin, topic, partition, position, key, body, reason, attempts)
         SELECT 'out', l.plugin, $1, $2, $3, $4, $5, $6, 1
           FROM saga.outbox o JOIN saga.lane l ON l.slot = o.slot
          WHERE o.seq = $7 AND NOT EXISTS (SELECT FROM saga.held WHERE direction = 'out' AND position = $3)",
    )
    .bind(&record.topic)
    .bind(record.partition)
    .bind(position)
    .bind(record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()))
    .bind(body)
    .bind(reason)
    .bind(seq)
    .execute(pool)
    .await
    .context("holding a refused record")
    .map(drop)
}

/// What is held of this database: topic, key, and (unit, index) of each record.
pub(super) async fn held(pool: &PgPool) -> anyhow::Result<Vec<(String, Option<String>, (i64, usize))>> {
    let rows: Vec<(String, Option<String>, i64)> =
        sqlx::query_as("SELECT topic, key, position FROM saga.held WHERE direction = 'out'")
            .fetch_all(pool)
            .await
            .context("reading the held records")?;
    Ok(rows
        .into_iter()
        .map(|(topic, key, position)| (topic, key, (position >> 16, usize::try_from(position & 0xffff).unwrap_or(0))))
        .collect())
}
