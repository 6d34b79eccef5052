//! The statements that read `saga.saga_live` and `saga.saga_done`.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow};

use super::row::SagaRow;

/// Which sagas are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct SagaFilter {
    pub(super) saga_type: Option<String>,
    pub(super) key: Option<String>,
    /// `live`, `overdue`, an ending, or a state as the plugin names it.
    pub(super) state: Option<String>,
}

/// The last saga of a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SagaCursor {
    pub(super) database: String,
    pub(super) saga_type: String,
    pub(super) key: String,
    pub(super) day: String,
    pub(super) started_at_us: i64,
}

const LIVE: &str = "SELECT type, key, 'infinity'::date AS day, plugin, digest, revision, state, overdue, \
    (extract(epoch FROM started_at) * 1000000)::bigint AS started_at_us, \
    (extract(epoch FROM next_at) * 1000000)::bigint AS next_at_us, \
    NULL::bigint AS ended_at_us, NULL::text AS ending";
const DONE: &str = "SELECT type, key, day, plugin, digest, revision, state, false AS overdue, \
    (extract(epoch FROM started_at) * 1000000)::bigint AS started_at_us, NULL::bigint AS next_at_us, \
    (extract(epoch FROM ended_at) * 1000000)::bigint AS ended_at_us, ending";

/// The next `limit` sagas of one database. Each half reads its primary key backwards.
pub(super) async fn search(
    connection: &mut PgConnection,
    database: &str,
    filter: &SagaFilter,
    after: Option<&SagaCursor>,
    limit: i64,
) -> Result<Vec<SagaRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(
        "SELECT *, '' AS data, NULL::text AS answer, '' AS log, day::text AS on_day FROM ((",
    );
    query.push(LIVE).push(" FROM saga.saga_live WHERE true");
    narrow(&mut query, filter);
    in_state(&mut query, filter, true);
    if let Some(cursor) = after {
        query
            .push(" AND (type, key) < (")
            .push_bind(&cursor.saga_type)
            .push(", ")
            .push_bind(&cursor.key)
            .push(")");
    }
    query.push(" ORDER BY type DESC, key DESC LIMIT ").push_bind(limit).push(") UNION ALL (");
    query.push(DONE).push(" FROM saga.saga_done WHERE true");
    narrow(&mut query, filter);
    in_state(&mut query, filter, false);
    if let Some(cursor) = after {
        query
            .push(" AND (type, key, day, started_at) < (")
            .push_bind(&cursor.saga_type)
            .push(", ")
            .push_bind(&cursor.key);
        query.push(", ").push_bind(&cursor.day).push("::date, 'epoch'::timestamptz + ");
        query.push_bind(cursor.started_at_us).push(" * interval '1 us')");
    }
    query.push(" ORDER BY type DESC, key DESC, day DESC, started_at DESC LIMIT ").push_bind(limit);
    query.push(")) sagas ORDER BY type DESC, key DESC, day DESC, started_at_us DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(connection).await?.iter().map(|row| read(row, database)).collect()
}

fn narrow(query: &mut QueryBuilder<Postgres>, filter: &SagaFilter) {
    if let Some(saga_type) = &filter.saga_type {
        query.push(" AND type = ").push_bind(saga_type.clone());
    }
    if let Some(key) = &filter.key {
        query.push(" AND key = ANY (").push_bind(both_cases(key)).push(")");
    }
}

/// Each state that the host itself knows concerns one of the two tables.
fn in_state(query: &mut QueryBuilder<Postgres>, filter: &SagaFilter, live: bool) {
    let Some(state) = filter.state.as_deref() else { return };
    match (state, live) {
        ("live", true) => query,
        ("overdue", true) => query.push(" AND overdue"),
        ("completed" | "compensated" | "failed", false) => {
            query.push(" AND ending = ").push_bind(state.to_owned())
        }
        ("live" | "overdue" | "completed" | "compensated" | "failed", _) => query.push(" AND false"),
        _ => query.push(" AND state = ").push_bind(state.to_owned()),
    };
}

fn both_cases(key: &str) -> Vec<String> {
    vec![key.to_owned(), key.to_lowercase()]
}

/// The live saga of this key, else the one that ended last.
pub(super) async fn find(
    connection: &mut PgConnection,
    database: &str,
    saga_type: &str,
    key: &str,
) -> Result<Option<SagaRow>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT *, day::text AS on_day FROM (");
    query
        .push(LIVE)
        .push(", data, NULL::text AS answer, log FROM saga.saga_live WHERE type = ")
        .push_bind(saga_type);
    query.push(" AND key = ANY (").push_bind(both_cases(key)).push(") UNION ALL ");
    query.push(DONE).push(", data, answer, log FROM saga.saga_done WHERE type = ").push_bind(saga_type);
    query.push(" AND key = ANY (").push_bind(both_cases(key));
    query.push(")) sagas ORDER BY key = ").push_bind(key).push(" DESC, day DESC, started_at_us DESC LIMIT 1");
    query.build().fetch_optional(connection).await?.map(|row| read(&row, database)).transpose()
}

fn read(row: &PgRow, database: &str) -> Result<SagaRow, sqlx::Error> {
    Ok(SagaRow {
        database: database.to_owned(),
        saga_type: row.try_get("type")?,
        key: row.try_get("key")?,
        day: row.try_get("on_day")?,
        plugin: row.try_get("plugin")?,
        version: row.try_get("digest")?,
        revision: row.try_get("revision")?,
        state: row.try_get("state")?,
        overdue: row.try_get("overdue")?,
        started_at: row.try_get("started_at_us")?,
        next_at: row.try_get("next_at_us")?,
        ended_at: row.try_get("ended_at_us")?,
        ending: row.try_get("ending")?,
        data: row.try_get("data")?,
        answer: row.try_get("answer")?,
        log: row.try_get("log")?,
    })
}

/// The sagas in flight of one plugin.
#[derive(Debug)]
pub(in crate::admin) struct InFlight {
    pub(in crate::admin) plugin: String,
    pub(in crate::admin) sagas: i64,
    pub(in crate::admin) overdue: i64,
}

/// Counts the sagas in flight of one database.
pub(in crate::admin) async fn in_flight(connection: &mut PgConnection) -> Result<Vec<InFlight>, sqlx::Error> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT plugin, count(*), count(*) FILTER (WHERE overdue) FROM saga.saga_live GROUP BY plugin",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(plugin, sagas, overdue)| InFlight { plugin, sagas, overdue }).collect())
}
