//! Redrives parked deliveries, and refused records; each key in its order.

use anyhow::Context;
use axum::http::StatusCode;
use sqlx::PgConnection;

use super::{
    statements::{self, ParkedFilter, RefusedRecord},
    view::ParkedId,
};
use crate::{
    admin::failure::Failure,
    model::record::{MESSAGE_ID, Record, decode, encode},
    problem::Problem,
    store::Database,
};

/// Records that one redrive sends again, at most.
const RECORDS_MAX: i64 = 1_000;

/// Redrives what the filter finds in one database. Returns the ids of the first entry of each key.
pub(super) async fn all(database: &Database, filter: &ParkedFilter) -> Result<Vec<String>, Failure> {
    let mut transaction = database.admin.begin().await?;
    let mut redriven = statements::retry_deliveries(&mut transaction, filter).await?;
    redriven.extend(records(&mut transaction, &database.name, filter).await?);
    transaction.commit().await?;
    Ok(redriven)
}

/// A refused record is sent again as part of a new unit of slot 0: under its old id, readers that have seen
/// later ones of its lane would take it for a repeat. All records of its key go with it, in order.
async fn records(
    connection: &mut PgConnection,
    database: &str,
    filter: &ParkedFilter,
) -> Result<Vec<String>, Failure> {
    let refused = statements::lock_records(connection, filter, RECORDS_MAX).await?;
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let (epoch, unit) = next_unit(connection).await?;
    let body = renamed(&refused, &format!("{database}:0:{epoch}:{unit}"))
        .map_err(|error| Problem::new(StatusCode::CONFLICT, "Cannot be sent again", format!("{error:#}")))?;
    let row_ids: Vec<i64> = refused.iter().map(|record| record.id).collect();
    statements::delete_all(connection, &row_ids).await?;
    into_outbox(connection, epoch, unit, &body).await?;
    Ok(refused.iter().map(|record| ParkedId::text(&record.plugin, record.id)).collect())
}

/// Takes the next unit of slot 0.
async fn next_unit(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as("UPDATE saga.lane SET unit = unit + 1 WHERE slot = 0 RETURNING epoch, unit")
        .fetch_one(connection)
        .await
}

async fn into_outbox(
    connection: &mut PgConnection,
    epoch: i64,
    unit: i64,
    body: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO saga.outbox (seq, slot, epoch, unit, body)
         VALUES (nextval('saga.outbox_seq'), 0, $1, $2, $3)",
    )
    .bind(epoch)
    .bind(unit)
    .bind(body)
    .execute(connection)
    .await
    .map(drop)
}

/// One outbox body of all refused records, each under its position in `unit`.
fn renamed(refused: &[RefusedRecord], unit: &str) -> anyhow::Result<Vec<u8>> {
    let mut records: Vec<Record> = Vec::new();
    for RefusedRecord { body, .. } in refused {
        records.extend(decode(body).context("it was written by another version of saga-host")?);
    }
    for (index, record) in records.iter_mut().enumerate() {
        record.headers.retain(|(name, _)| name != MESSAGE_ID);
        record.headers.push((MESSAGE_ID.into(), format!("{unit}:{index}").into()));
    }
    encode(&records).context("encoding the records")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Record, RefusedRecord, decode, encode, renamed};

    fn refused(body: Vec<u8>) -> RefusedRecord {
        RefusedRecord { id: 1, plugin: "p".to_owned(), body }
    }

    #[test]
    fn records_keep_their_order_and_get_new_ids() {
        let record = |value: &str| Record {
            topic: "t".into(),
            partition: 3,
            timestamp_ms: 5,
            key: Some(b"k"[..].into()),
            payload: Some(value.to_owned().into()),
            headers: vec![("ce_id".into(), b"d:2:1:1:0"[..].into()), ("ce_type".into(), b"x"[..].into())],
        };
        let both = ["1", "2"].map(|value| refused(encode(&[record(value)]).unwrap()));
        let sent = decode(&renamed(&both, "d:0:7:9").unwrap()).unwrap();
        let ids: Vec<_> = sent.iter().map(|record| record.headers.last().unwrap().1.as_ref()).collect();
        assert_eq!(ids, [b"d:0:7:9:0", b"d:0:7:9:1"]);
        assert_eq!(sent[1].payload.as_deref(), Some(&b"2"[..]));
        assert_eq!((sent[0].headers.len(), sent[0].partition), (2, 3));
        assert!(renamed(&[refused(b"\xff".to_vec())], "d:0:7:9").is_err());
    }
}
