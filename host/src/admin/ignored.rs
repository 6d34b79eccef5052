//! Deliveries that changed nothing, and those that a person discarded (`saga.ignored`): late, unknown and
//! contradicting replies, for example.

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::{
    Admin,
    database::{databases, read_only},
    failure::Failure,
    paging::{Pairs, Params, cut},
};
use crate::model::saga_log::rfc3339;

/// The newest entries of one saga that are shown.
const IGNORED_MAX: i64 = 100;

/// A delivery that changed nothing.
#[derive(Debug, Serialize)]
pub(super) struct Ignored {
    at: String,
    source: String,
    reason: String,
}

/// An entry of the list.
#[derive(Debug, Serialize)]
struct Entry {
    at: String,
    plugin: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    reason: String,
    #[serde(skip)]
    cursor: IgnoredCursor,
}

/// The last entry of a page; cursors compare as entries follow each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct IgnoredCursor {
    at_us: i64,
    database: String,
    source: String,
}

/// `GET /v1/ignored`, newest first.
pub(super) async fn page(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs)?;
    let limit = params.limit()?;
    let cursor: Option<IgnoredCursor> = params.cursor()?;
    let filters = [
        ("plugin = ", params.filter("plugin")?),
        ("key = ", params.filter("key")?),
        ("reason = ", params.filter("reason")?),
    ];
    params.finish()?;
    let mut entries = Vec::new();
    for database in databases(&admin.services) {
        let mut reading = read_only(&database).await?;
        entries.extend(entries_of(&mut reading, &database.name, &filters, cursor.as_ref(), limit + 1).await?);
    }
    entries.sort_by_key(|entry: &Entry| Reverse(entry.cursor.clone()));
    let next = cut(&mut entries, limit, |entry| entry.cursor.clone());
    Ok(Json(json!({ "ignored": entries, "next": next })))
}

/// The newest entries of one database after a cursor.
async fn entries_of(
    connection: &mut PgConnection,
    database: &str,
    filters: &[(&str, Option<String>)],
    after: Option<&IgnoredCursor>,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    const AT_US: &str = "(extract(epoch FROM ignored_at) * 1000000)::bigint";
    let mut query: QueryBuilder<Postgres> = QueryBuilder::new("SELECT ");
    query.push(AT_US).push(", plugin, source, key, reason FROM saga.ignored WHERE true");
    for (column, filter) in filters {
        if let Some(filter) = filter {
            query.push(" AND ").push(column).push_bind(filter.clone());
        }
    }
    if let Some(cursor) = after {
        match database.cmp(&cursor.database) {
            std::cmp::Ordering::Less => query.push(" AND ").push(AT_US).push(" <= ").push_bind(cursor.at_us),
            std::cmp::Ordering::Equal => {
                query.push(" AND (").push(AT_US).push(", source) < (").push_bind(cursor.at_us);
                query.push(", ").push_bind(cursor.source.clone()).push(")")
            }
            std::cmp::Ordering::Greater => {
                query.push(" AND ").push(AT_US).push(" < ").push_bind(cursor.at_us)
            }
        };
    }
    query.push(" ORDER BY day DESC, ignored_at DESC, source DESC LIMIT ").push_bind(limit);
    let rows: Vec<(i64, String, String, Option<String>, String)> =
        query.build_query_as().fetch_all(connection).await?;
    let entry = |(at_us, plugin, source, key, reason): (i64, String, String, Option<String>, String)| Entry {
        at: rfc3339(at_us),
        plugin,
        cursor: IgnoredCursor { at_us, database: database.to_owned(), source: source.clone() },
        source,
        key,
        reason,
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// What a plugin ignored of one key, oldest first.
pub(super) async fn list(
    connection: &mut PgConnection,
    plugin: &str,
    key: &str,
) -> Result<Vec<Ignored>, sqlx::Error> {
    let rows: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT (extract(epoch FROM ignored_at) * 1000000)::bigint, source, reason FROM saga.ignored
          WHERE key = $1 AND plugin = $2 ORDER BY ignored_at DESC LIMIT $3",
    )
    .bind(key)
    .bind(plugin)
    .bind(IGNORED_MAX)
    .fetch_all(connection)
    .await?;
    let newest_first = rows.into_iter();
    Ok(newest_first.rev().map(|(at, source, reason)| Ignored { at: rfc3339(at), source, reason }).collect())
}

/// Records that a delivery of `source` was given up.
pub(super) async fn record(
    connection: &mut PgConnection,
    plugin: &str,
    source: &str,
    key: Option<&str>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO saga.ignored (day, plugin, source, key, reason)
         VALUES ((now() AT TIME ZONE 'UTC')::date, $1, $2, $3, $4)",
    )
    .bind(plugin)
    .bind(source)
    .bind(key)
    .bind(reason)
    .execute(connection)
    .await
    .map(drop)
}
