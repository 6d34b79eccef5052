//! The statements of `saga.parked` for records that are not sent (direction `out`).
//!
//! ```text
//!  refused by Kafka             attempts 1 or more, no retry_at    waits for a person
//!  redriven                     retry_at                           the leader sends it now
//!  behind an earlier one        attempts 0                         sent when it is the first of its key
//! ```

use anyhow::Context;
use sqlx::PgConnection;

use super::in_flight::position;
use crate::model::record::{Record, encode};

const QUEUED_REASON: &str = "an earlier record of its key is parked";
/// Rows that one redrive reads, at most.
const REDRIVE_ROWS_MAX: i64 = 200;
/// The size of their bodies, at most; a single row may exceed it.
const REDRIVE_BYTES_MAX: i64 = 4 << 20;

/// The first parked record of a key.
#[derive(Debug)]
pub(super) struct FirstParked {
    pub(super) topic: String,
    /// None: this row alone.
    pub(super) key: Option<String>,
    pub(super) id: i64,
    pub(super) position: i64,
    /// Whether it is to be sent now.
    pub(super) due: bool,
    /// Whether an earlier attempt to send it was interrupted.
    pub(super) started: bool,
}

/// The columns of a [`FirstParked`], in its order.
type FirstParkedColumns = (String, Option<String>, i64, i64, bool, bool);

/// A parked row to send.
#[derive(Debug)]
pub(super) struct ParkedRow {
    pub(super) id: i64,
    /// Of its first record in the outbox.
    pub(super) position: i64,
    pub(super) body: Vec<u8>,
    /// The message id that an earlier attempt has given to its first record.
    pub(super) sent_as: Option<String>,
}

/// The key of a record as `saga.parked` has it. Postgres stores no NUL in a text.
pub(super) fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "\u{fffd}")
}

/// The first parked record of each key, and the first redriven one without a key. Whether anything is parked
/// at all.
pub(super) async fn first_parked(database: &mut PgConnection) -> anyhow::Result<(Vec<FirstParked>, bool)> {
    let keys = sqlx::query_as(
        "SELECT DISTINCT ON (topic, key) topic, key, id, position,
                attempts = 0 OR coalesce(retry_at <= now(), false) AS due, sent_as IS NOT NULL AS started
           FROM saga.parked WHERE direction = 'out' AND key IS NOT NULL ORDER BY topic, key, position",
    );
    let mut first: Vec<FirstParkedColumns> =
        keys.fetch_all(&mut *database).await.context("reading the parked records")?;
    let without_key = sqlx::query_as(
        "SELECT topic, key, id, position, true AS due, sent_as IS NOT NULL AS started
           FROM saga.parked WHERE direction = 'out' AND key IS NULL AND retry_at <= now()
          ORDER BY sent_as IS NULL, position LIMIT 1",
    );
    first.extend(without_key.fetch_optional(&mut *database).await.context("reading the parked records")?);
    let any = !first.is_empty()
        || sqlx::query_scalar("SELECT EXISTS (SELECT FROM saga.parked WHERE direction = 'out')")
            .fetch_one(database)
            .await
            .context("reading the parked records")?;
    let first = first.into_iter().map(|(topic, key, id, position, due, started)| FirstParked {
        topic,
        key,
        id,
        position,
        due,
        started,
    });
    Ok((first.collect(), any))
}

/// Parks a record that Kafka has refused: marks it in its outbox row and keeps a copy for a person, in one
/// statement. Parking it again changes nothing.
pub(super) async fn park(
    database: &mut PgConnection,
    (seq, index): (i64, usize),
    record: &Record,
    reason: &str,
) -> anyhow::Result<()> {
    insert(database, (seq, index), record, (reason, 1), "true").await.map(drop)
}

/// Parks a record if an earlier one of its key is parked; false when there is none.
pub(super) async fn park_behind(
    database: &mut PgConnection,
    (seq, index): (i64, usize),
    record: &Record,
) -> anyhow::Result<bool> {
    let earlier = "EXISTS (SELECT FROM saga.parked WHERE direction = 'out' AND topic = $4 AND key = $7 \
                   AND position < $6)";
    insert(database, (seq, index), record, (QUEUED_REASON, 0), earlier).await
}

/// Whether `condition` holds.
async fn insert(
    database: &mut PgConnection,
    (seq, index): (i64, usize),
    record: &Record,
    (reason, attempts): (&str, i32),
    condition: &str,
) -> anyhow::Result<bool> {
    let body = encode(std::slice::from_ref(record)).context("encoding a record to park")?;
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "WITH parking AS (SELECT {condition} AS holds),
         taken AS (
             UPDATE saga.outbox SET parked_indexes = array_append(parked_indexes, $1)
              WHERE seq = $2 AND NOT ($1 = ANY (parked_indexes)) AND (SELECT holds FROM parking)
             RETURNING seq),
         parked AS (
             INSERT INTO saga.parked
                    (direction, plugin, topic, partition, position, key, body, reason, attempts)
             SELECT 'out', $3, $4, $5, $6, $7, $8, $9, $10 FROM taken)
         SELECT holds FROM parking"
    )))
    .bind(i32::try_from(index).unwrap_or(i32::MAX))
    .bind(seq)
    .bind(record.plugin())
    .bind(&record.topic)
    .bind(record.partition)
    .bind(position(seq, index))
    .bind(record.key.as_deref().map(key_text))
    .bind(body)
    .bind(reason)
    .bind(attempts)
    .fetch_one(database)
    .await
    .context("parking a record")
}

/// Moves an outbox row that this build cannot decode to the parked records, as one entry.
pub(super) async fn park_undecodable(
    database: &mut PgConnection,
    seq: i64,
    reason: &str,
) -> anyhow::Result<()> {
    sqlx::query(
        "WITH taken AS (DELETE FROM saga.outbox WHERE seq = $1 RETURNING slot, body)
         INSERT INTO saga.parked (direction, plugin, topic, partition, position, key, body, reason, attempts)
         SELECT 'out',
                coalesce((SELECT nullif(plugin, '') FROM saga.lane l WHERE l.slot = t.slot), 'unknown'),
                '', -1, $2, NULL, body, $3, 1
           FROM taken t",
    )
    .bind(seq)
    .bind(position(seq, 0))
    .bind(reason)
    .execute(database)
    .await
    .context("parking an outbox row that cannot be decoded")
    .map(drop)
}

/// The next rows of a key, in their order, or the one row without a key.
pub(super) async fn next_of(
    database: &mut PgConnection,
    first: &FirstParked,
) -> anyhow::Result<Vec<ParkedRow>> {
    let rows: Vec<(i64, i64, Vec<u8>, Option<String>)> = sqlx::query_as(
        "SELECT id, position, body, sent_as FROM (
             SELECT id, body, sent_as, position,
                    sum(octet_length(body)) OVER (ORDER BY position, id) - octet_length(body) AS bytes_before
               FROM (SELECT id, body, sent_as, position FROM saga.parked
                      WHERE direction = 'out' AND (id = $1 OR (topic = $2 AND key = $3))
                      ORDER BY position, id LIMIT $4) lowest) measured
          WHERE bytes_before < $5 ORDER BY position, id",
    )
    .bind(first.id)
    .bind(&first.topic)
    .bind(&first.key)
    .bind(REDRIVE_ROWS_MAX)
    .bind(REDRIVE_BYTES_MAX)
    .fetch_all(database)
    .await
    .context("reading parked records to send")?;
    let row = |(id, position, body, sent_as)| ParkedRow { id, position, body, sent_as };
    Ok(rows.into_iter().map(row).collect())
}

/// Takes the next unit of slot 0, for the message ids of redriven records: (epoch, unit).
pub(super) async fn next_unit(database: &mut PgConnection) -> anyhow::Result<(i64, i64)> {
    sqlx::query_as("UPDATE saga.lane SET unit = unit + 1 WHERE slot = 0 RETURNING epoch, unit")
        .fetch_one(database)
        .await
        .context("taking a unit for redriven records")
}

/// Stores the message ids before the records are sent: they are sent under the same ids after a crash.
pub(super) async fn set_sent_as(
    database: &mut PgConnection,
    ids: &[i64],
    sent_as: &[String],
) -> anyhow::Result<()> {
    sqlx::query(
        "UPDATE saga.parked p SET sent_as = n.sent_as
           FROM unnest($1::bigint[], $2::text[]) n (id, sent_as) WHERE p.id = n.id",
    )
    .bind(ids)
    .bind(sent_as)
    .execute(database)
    .await
    .context("storing the ids of redriven records")
    .map(drop)
}

/// Deletes rows whose records Kafka has acknowledged.
pub(super) async fn delete(database: &mut PgConnection, ids: &[i64]) -> anyhow::Result<()> {
    sqlx::query("DELETE FROM saga.parked WHERE id = ANY ($1)")
        .bind(ids)
        .execute(database)
        .await
        .context("deleting redriven records")
        .map(drop)
}

/// Kafka refuses a redriven record again: it waits for a person, and the rows behind it wait for it. None of
/// them was sent, so their next attempt gets new ids.
pub(super) async fn refuse_again(
    database: &mut PgConnection,
    id: i64,
    reason: &str,
    behind: &[i64],
) -> anyhow::Result<()> {
    sqlx::query(
        "UPDATE saga.parked
            SET sent_as = NULL, retry_at = NULL,
                reason = CASE WHEN id = $1 THEN $2 ELSE reason END,
                attempts = CASE WHEN id = $1 THEN attempts + 1 ELSE attempts END
          WHERE id = $1 OR id = ANY ($3)",
    )
    .bind(id)
    .bind(reason)
    .bind(behind)
    .execute(database)
    .await
    .context("parking a redriven record again")
    .map(drop)
}
