//! The statements of `saga.parked`, the table of what is parked.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow};

use super::view::{Parked, ParkedId};
use crate::model::{format::HEADER_BYTES, saga_log::rfc3339};

/// Which entries are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct ParkedFilter {
    pub(super) plugin: Option<String>,
    /// Anywhere in the reason, in any case.
    pub(super) reason: Option<String>,
    pub(super) key: Option<String>,
    pub(super) state: Option<String>,
    pub(super) id: Option<i64>,
}

/// The last entry of a page; cursors compare as entries follow each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ParkedCursor {
    pub(super) parked_at_us: i64,
    pub(super) database: String,
    pub(super) row_id: i64,
}

const STATE: &str = "CASE WHEN retry_at IS NOT NULL THEN 'retrying' \
     WHEN attempts = 0 THEN 'queued' ELSE 'dead_letter' END";

const PARKED_AT_US: &str = "(extract(epoch FROM parked_at) * 1000000)::bigint";

fn select(body: &str) -> String {
    format!(
        "SELECT id, plugin, direction, {STATE} AS state, topic, partition, position, key, reason, attempts, \
         {PARKED_AT_US} AS parked_at_us, (extract(epoch FROM retry_at) * 1000000)::bigint AS retry_at_us, \
         {body} AS body FROM saga.parked WHERE true"
    )
}

/// Adds the conditions of a filter.
fn narrow(query: &mut QueryBuilder<Postgres>, filter: &ParkedFilter) {
    if let Some(id) = filter.id {
        query.push(" AND id = ").push_bind(id);
    }
    if let Some(plugin) = &filter.plugin {
        query.push(" AND plugin = ").push_bind(plugin.clone());
    }
    if let Some(key) = &filter.key {
        query.push(" AND key = ").push_bind(key.clone());
    }
    if let Some(reason) = &filter.reason {
        query.push(" AND position(lower(").push_bind(reason.clone()).push(") IN lower(reason)) > 0");
    }
    if let Some(state) = &filter.state {
        query.push(" AND ").push(STATE).push(" = ").push_bind(state.clone());
    }
}

/// The newest entries of one database after a cursor.
pub(super) async fn list(
    connection: &mut PgConnection,
    database: &str,
    filter: &ParkedFilter,
    after: Option<&ParkedCursor>,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    let mut query = QueryBuilder::new(select(&format!("substring(body FROM 1 FOR {HEADER_BYTES})")));
    narrow(&mut query, filter);
    if let Some(cursor) = after {
        let below = match database.cmp(&cursor.database) {
            std::cmp::Ordering::Less => i64::MAX,
            std::cmp::Ordering::Equal => cursor.row_id,
            std::cmp::Ordering::Greater => i64::MIN,
        };
        query.push(" AND (").push(PARKED_AT_US).push(", id) < (").push_bind(cursor.parked_at_us);
        query.push(", ").push_bind(below).push(")");
    }
    query.push(" ORDER BY parked_at DESC, id DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(connection).await?.iter().map(|row| read(row, database)).collect()
}

/// One entry with its body.
pub(super) async fn find(
    connection: &mut PgConnection,
    database: &str,
    id: &ParkedId,
) -> Result<Option<Parked>, sqlx::Error> {
    let mut query = QueryBuilder::new(select("body"));
    let plugin = Some(id.plugin.clone());
    narrow(&mut query, &ParkedFilter { id: Some(id.row_id), plugin, ..ParkedFilter::default() });
    query.build().fetch_optional(connection).await?.map(|row| read(&row, database)).transpose()
}

fn read(row: &PgRow, database: &str) -> Result<Parked, sqlx::Error> {
    let (plugin, row_id): (String, i64) = (row.try_get("plugin")?, row.try_get("id")?);
    let (direction, position): (String, i64) = (row.try_get("direction")?, row.try_get("position")?);
    let partition: i32 = row.try_get("partition")?;
    let parked_at_us = row.try_get("parked_at_us")?;
    let body: Vec<u8> = row.try_get("body")?;
    Ok(Parked {
        id: ParkedId::text(&plugin, row_id),
        plugin,
        database: database.to_owned(),
        offset: (direction == "in" && partition >= 0 && position >= 0).then_some(position),
        direction,
        state: row.try_get("state")?,
        topic: row.try_get("topic")?,
        partition,
        key: row.try_get("key")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        parked_at: rfc3339(parked_at_us),
        retry_at: row.try_get::<Option<i64>, _>("retry_at_us")?.map(rfc3339),
        unreadable: Parked::unreadable(&body),
        row_id,
        parked_at_us,
        body,
    })
}

/// How many entries of a plugin are in a state.
#[derive(Debug)]
pub(in crate::admin) struct ParkedCount {
    pub(in crate::admin) plugin: String,
    pub(in crate::admin) direction: String,
    pub(in crate::admin) state: String,
    pub(in crate::admin) entries: i64,
}

/// Counts the entries of one database.
pub(in crate::admin) async fn counts(connection: &mut PgConnection) -> Result<Vec<ParkedCount>, sqlx::Error> {
    let sql = format!("SELECT plugin, direction, {STATE}, count(*) FROM saga.parked GROUP BY 1, 2, 3");
    let rows: Vec<(String, String, String, i64)> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await?;
    let count = |(plugin, direction, state, entries)| ParkedCount { plugin, direction, state, entries };
    Ok(rows.into_iter().map(count).collect())
}

/// Makes the first entry of each key that the filter finds due now. For a delivery, the host that owns its
/// partition takes it up, for a record the leader of the database; later ones of the key follow.
pub(super) async fn redrive(
    connection: &mut PgConnection,
    filter: &ParkedFilter,
) -> Result<Vec<String>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "WITH wanted AS (SELECT id, direction, plugin, topic, partition, key FROM saga.parked",
    );
    query.push(" WHERE true");
    narrow(&mut query, filter);
    query.push(
        ") UPDATE saga.parked SET retry_at = now() WHERE id IN (
             SELECT coalesce(CASE w.direction
                 WHEN 'in' THEN (SELECT min(f.id) FROM saga.parked f
                                  WHERE f.direction = 'in' AND f.plugin = w.plugin AND f.topic = w.topic
                                    AND f.partition = w.partition AND f.key = w.key)
                 ELSE (SELECT f.id FROM saga.parked f
                        WHERE f.direction = 'out' AND f.topic = w.topic AND f.key = w.key
                        ORDER BY f.position LIMIT 1) END, w.id) FROM wanted w)
           RETURNING plugin, id",
    );
    let rows: Vec<(String, i64)> = query.build_query_as().fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(plugin, id)| ParkedId::text(&plugin, id)).collect())
}

/// Deletes one entry; false when it was gone.
pub(super) async fn delete(
    connection: &mut PgConnection,
    plugin: &str,
    row_id: i64,
) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query("DELETE FROM saga.parked WHERE id = $1 AND plugin = $2")
        .bind(row_id)
        .bind(plugin)
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
