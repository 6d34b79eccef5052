//! Has held deliveries tried again, and refused records sent again; each key in its order.

use anyhow::Context;
use axum::http::StatusCode;
use sqlx::{PgConnection, QueryBuilder};

use super::{
    row::Id,
    statements::{Filter, narrow},
};
use crate::{
    admin::failure::Failure,
    model::record::{MESSAGE_ID, Record, decode, encode},
    problem::Problem,
    store::Database,
};

/// Records sent again by one redrive, at most.
const RECORDS_MAX: i64 = 1_000;

/// Redrives what the filter finds in one database; gives the ids of what goes first.
pub(super) async fn all(database: &Database, filter: &Filter) -> Result<Vec<String>, Failure> {
    let mut transaction = database.admin.begin().await?;
    let mut redriven = deliveries(&mut transaction, filter).await?;
    redriven.extend(records(&mut transaction, &database.name, filter).await?);
    transaction.commit().await?;
    Ok(redriven)
}

/// Of each key the first is due now; whoever owns its partition takes it up, and the later ones after it.
async fn deliveries(connection: &mut PgConnection, filter: &Filter) -> Result<Vec<String>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "WITH wanted AS (SELECT id, plugin, topic, partition, key FROM saga.parked WHERE direction = 'in'",
    );
    narrow(&mut query, filter);
    query.push(
        ") UPDATE saga.parked SET retry_at = now() WHERE id IN (
             SELECT coalesce((SELECT min(f.id) FROM saga.parked f
                               WHERE f.direction = 'in' AND f.plugin = w.plugin AND f.topic = w.topic
                                 AND f.partition = w.partition AND f.key = w.key), w.id) FROM wanted w)
           RETURNING plugin, id",
    );
    let rows: Vec<(String, i64)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(plugin, id)| Id::text(&plugin, id)).collect())
}

/// A refused record goes out as part of a new unit of slot 0: under its old id, readers that have
/// seen later ones of its lane would take it for a repeat. All of its key go with it, in order.
async fn records(
    connection: &mut PgConnection,
    database: &str,
    filter: &Filter,
) -> Result<Vec<String>, Failure> {
    let mut query =
        QueryBuilder::new("WITH wanted AS (SELECT id, topic, key FROM saga.parked WHERE direction = 'out'");
    narrow(&mut query, filter);
    query.push(
        ") SELECT id, plugin, body FROM saga.parked h
            WHERE direction = 'out' AND EXISTS (
                  SELECT FROM wanted w WHERE w.id = h.id OR (w.topic = h.topic AND w.key = h.key))
            ORDER BY position FOR UPDATE LIMIT ",
    );
    query.push_bind(RECORDS_MAX);
    let rows: Vec<(i64, String, Vec<u8>)> = query.build_query_as().fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (epoch, unit): (i64, i64) =
        sqlx::query_as("UPDATE saga.lane SET unit = unit + 1 WHERE slot = 0 RETURNING epoch, unit")
            .fetch_one(&mut *connection)
            .await?;
    let bodies = rows.iter().map(|(_, _, body)| body.as_slice());
    let body = renamed(bodies, &format!("{database}:0:{epoch}:{unit}"))
        .map_err(|error| Problem::new(StatusCode::CONFLICT, "Cannot be sent again", format!("{error:#}")))?;
    let ids: Vec<i64> = rows.iter().map(|(id, ..)| *id).collect();
    sqlx::query("DELETE FROM saga.parked WHERE id = ANY ($1)").bind(&ids).execute(&mut *connection).await?;
    sqlx::query(
        "INSERT INTO saga.outbox (seq, slot, epoch, unit, body) VALUES (nextval('saga.outbox_seq'), 0, $1, $2, $3)",
    )
    .bind(epoch)
    .bind(unit)
    .bind(body)
    .execute(connection)
    .await?;
    Ok(rows.into_iter().map(|(id, plugin, _)| Id::text(&plugin, id)).collect())
}

/// One outbox body of several held ones, each record under its place in `unit`.
fn renamed<'a>(bodies: impl Iterator<Item = &'a [u8]>, unit: &str) -> anyhow::Result<Vec<u8>> {
    let mut records: Vec<Record> = Vec::new();
    for body in bodies {
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
    use super::{Record, decode, encode, renamed};

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
        let bodies = [encode(&[record("1")]).unwrap(), encode(&[record("2")]).unwrap()];
        let sent = decode(&renamed(bodies.iter().map(Vec::as_slice), "d:0:7:9").unwrap()).unwrap();
        let ids: Vec<_> = sent.iter().map(|record| record.headers.last().unwrap().1.as_ref()).collect();
        assert_eq!(ids, [b"d:0:7:9:0", b"d:0:7:9:1"]);
        assert_eq!(sent[1].payload.as_deref(), Some(&b"2"[..]));
        assert_eq!((sent[0].headers.len(), sent[0].partition), (2, 3));
        assert!(renamed([&b"\xff"[..]].into_iter(), "d:0:7:9").is_err());
    }
}
