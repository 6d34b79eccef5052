//! The statements of `saga.outbox`.

use std::sync::Arc;

use anyhow::Context;
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::order::{Records, bytes_of};
use crate::model::{format::Unreadable, record::decode};

/// Outbox rows that one snapshot reads, at most.
const SNAPSHOT_ROWS_MAX: i64 = 500;
/// The size of the bodies that one snapshot reads, at most; a single row may exceed it.
const SNAPSHOT_BODY_BYTES_MAX: i64 = 8 << 20;
/// The size of the records that it decodes, at most; a single unit may exceed it. Bodies are compressed.
const SNAPSHOT_RECORD_BYTES_MAX: usize = 16 << 20;

/// A unit in the outbox.
pub(super) struct OutboxRow {
    pub(super) seq: i64,
    pub(super) records: Records,
    /// Indexes of the records that are parked, hence not to be sent.
    pub(super) parked: Vec<usize>,
}

/// A row of the query: the leader's epoch, and a unit; seq, body, parked indexes, and whether it is the last one
/// that is read. Without units in the outbox there is one row, with the epoch alone.
type SnapshotRow = (i64, Option<i64>, Option<Vec<u8>>, Option<Vec<i32>>, Option<bool>);

/// What one snapshot of the outbox shows.
#[derive(Default)]
pub(super) struct Snapshot {
    /// Sorted by `seq`.
    pub(super) rows: Vec<OutboxRow>,
    /// Rows that are damaged, with the reason.
    pub(super) undecodable: Vec<(i64, String)>,
    /// The first row that a later build has written, with the reason why this one cannot read it.
    pub(super) of_later_build: Option<(i64, String)>,
    /// Whether the outbox has no more rows.
    pub(super) complete: bool,
    /// Whether another host leads.
    pub(super) lead_lost: bool,
}

/// Reads the lowest units that are not in flight, up to the limits above. Decodes one row after the other, so
/// only one encoded body is in memory at a time.
///
/// Another leader may have sent and deleted what should come first, so a snapshot counts only under the own
/// `leader_epoch`.
pub(super) async fn read_unpublished(
    database: &mut PgConnection,
    leader_epoch: i64,
    in_flight: &[i64],
) -> anyhow::Result<Snapshot> {
    // The sizes of the bodies are known without reading them, since they are stored uncompressed.
    let mut rows = sqlx::query_as::<_, SnapshotRow>(
        "SELECT leader.epoch, seq, body, parked_indexes, is_last FROM saga.lane leader LEFT JOIN (
             SELECT seq, body, parked_indexes, place = $2 AS is_last,
                    sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS bytes_before
               FROM (SELECT seq, body, parked_indexes, row_number() OVER (ORDER BY seq) AS place
                       FROM saga.outbox WHERE seq <> ALL ($1) ORDER BY seq LIMIT $2) lowest) measured
            ON bytes_before < $3
          WHERE leader.slot = 0 ORDER BY seq",
    )
    .bind(in_flight)
    .bind(SNAPSHOT_ROWS_MAX)
    .bind(SNAPSHOT_BODY_BYTES_MAX)
    .fetch(database);
    let mut snapshot = Snapshot { complete: true, ..Snapshot::default() };
    let (mut body_bytes, mut record_bytes) = (0, 0);
    while let Some(row) = rows.try_next().await.context("reading the outbox")? {
        let (epoch, seq, body, parked_indexes, is_last) = row;
        if epoch != leader_epoch {
            return Ok(Snapshot { lead_lost: true, ..Snapshot::default() });
        }
        let (Some(seq), Some(body)) = (seq, body) else { break };
        let is_last = is_last.unwrap_or(false);
        // A row was left out above it, or may have been.
        body_bytes += i64::try_from(body.len()).unwrap_or(i64::MAX);
        snapshot.complete &= !is_last && body_bytes < SNAPSHOT_BODY_BYTES_MAX;
        if record_bytes >= SNAPSHOT_RECORD_BYTES_MAX {
            snapshot.complete = false;
            continue;
        }
        match decode(&body) {
            Ok(records) => {
                let records = Arc::new(records);
                record_bytes += bytes_of(&records);
                let parked = parked_indexes.into_iter().flatten();
                let parked = parked.filter_map(|index| usize::try_from(index).ok()).collect();
                snapshot.rows.push(OutboxRow { seq, records, parked });
            }
            Err(error @ Unreadable::Format { .. }) => {
                snapshot.of_later_build = Some((seq, error.to_string()));
                return Ok(snapshot);
            }
            Err(error) => snapshot.undecodable.push((seq, error.to_string())),
        }
    }
    Ok(snapshot)
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

/// Milliseconds since 1970 by Postgres's clock.
pub(super) async fn present_time_ms(database: &mut PgConnection) -> anyhow::Result<i64> {
    sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        .fetch_one(database)
        .await
        .context("reading the time of Postgres")
}
