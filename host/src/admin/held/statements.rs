//! The statements that read `saga.parked`.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow};

use super::{
    STATE,
    row::{Held, Id},
};
use crate::model::saga_log::rfc3339;

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) plugin: Option<String>,
    /// Somewhere in the reason, in any case.
    pub(super) reason: Option<String>,
    pub(super) key: Option<String>,
    pub(super) state: Option<String>,
    pub(super) id: Option<i64>,
}

/// Where a page ended; compares as rows follow each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) held_at_us: i64,
    pub(super) database: String,
    pub(super) row_id: i64,
}

const HELD_AT: &str = "(extract(epoch FROM parked_at) * 1000000)::bigint";

fn select(body: &str) -> String {
    format!(
        "SELECT id, plugin, direction, {STATE} AS state, topic, partition, position, key, reason, attempts, \
         {HELD_AT} AS held_at_us, (extract(epoch FROM retry_at) * 1000000)::bigint AS retry_at_us, {body} AS body \
         FROM saga.parked WHERE true"
    )
}

/// Adds the conditions of a filter.
pub(super) fn narrow(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
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

/// The newest of one database that come after a place.
pub(super) async fn list(
    connection: &mut PgConnection,
    database: &str,
    filter: &Filter,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Held>, sqlx::Error> {
    let mut query = QueryBuilder::new(select("''::bytea"));
    narrow(&mut query, filter);
    if let Some(place) = after {
        let below = match database.cmp(&place.database) {
            std::cmp::Ordering::Less => i64::MAX,
            std::cmp::Ordering::Equal => place.row_id,
            std::cmp::Ordering::Greater => i64::MIN,
        };
        query.push(" AND (").push(HELD_AT).push(", id) < (").push_bind(place.held_at_us);
        query.push(", ").push_bind(below).push(")");
    }
    query.push(" ORDER BY parked_at DESC, id DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(connection).await?.iter().map(|row| read(row, database)).collect()
}

/// One row with its body.
pub(super) async fn find(
    connection: &mut PgConnection,
    database: &str,
    id: &Id,
) -> Result<Option<Held>, sqlx::Error> {
    let mut query = QueryBuilder::new(select("body"));
    narrow(&mut query, &Filter { id: Some(id.row_id), plugin: Some(id.plugin.clone()), ..Filter::default() });
    query.build().fetch_optional(connection).await?.map(|row| read(&row, database)).transpose()
}

fn read(row: &PgRow, database: &str) -> Result<Held, sqlx::Error> {
    let (plugin, row_id): (String, i64) = (row.try_get("plugin")?, row.try_get("id")?);
    let (direction, position): (String, i64) = (row.try_get("direction")?, row.try_get("position")?);
    let partition: i32 = row.try_get("partition")?;
    let held_at_us = row.try_get("held_at_us")?;
    Ok(Held {
        id: Id::text(&plugin, row_id),
        plugin,
        database: database.to_owned(),
        offset: (direction == "in" && partition >= 0).then_some(position),
        direction,
        state: row.try_get("state")?,
        topic: row.try_get("topic")?,
        partition,
        key: row.try_get("key")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        held_at: rfc3339(held_at_us),
        retry_at: row.try_get::<Option<i64>, _>("retry_at_us")?.map(rfc3339),
        row_id,
        held_at_us,
        body: row.try_get("body")?,
    })
}
