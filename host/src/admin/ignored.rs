//! The statements of `saga.ignored`: deliveries that changed nothing, and those that a person discarded.

use serde::Serialize;
use sqlx::PgConnection;

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
