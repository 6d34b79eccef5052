//! Deliveries and records that wait for a retry or for a person: to be looked at, tried again in
//! the order of their key, or discarded, which is recorded.

mod discard;
mod redrive;
mod row;
mod statements;

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};

use self::{
    row::{Held, Id},
    statements::{Filter, Place},
};
use super::{
    Admin,
    database::{databases, look},
    failure::Failure,
    paging::{Pairs, Params, cut},
};
use crate::{rollout::shared::Shared, store::Database};

/// The state of a row of `saga.parked`, in SQL: `queued` behind an earlier one of its key,
/// `retrying` by itself, or `dead_letter` until a person redrives or discards it.
pub(super) const STATE: &str = "CASE WHEN retry_at IS NOT NULL THEN 'retrying' \
     WHEN direction = 'in' AND attempts = 0 THEN 'queued' ELSE 'dead_letter' END";

/// Newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs);
    let limit = params.limit()?;
    let cursor: Option<Place> = params.cursor()?;
    let filter = Filter {
        plugin: params.filter("plugin")?,
        reason: params.filter("reason")?,
        key: params.filter("key")?,
        state: params.filter("state")?,
        id: None,
    };
    if filter.state.as_deref().is_some_and(|state| !["queued", "retrying", "dead_letter"].contains(&state)) {
        return Err(Failure::parameter("state", "queued, retrying or dead_letter"));
    }
    params.finish()?;
    let mut held = Vec::new();
    for database in databases(&admin.shared) {
        let mut look = look(&database).await?;
        held.extend(statements::list(&mut look, &database.name, &filter, cursor.as_ref(), limit + 1).await?);
    }
    held.sort_by_key(|held: &Held| Reverse(held.place()));
    let next = cut(&mut held, limit, Held::place);
    Ok(Json(json!({ "held": held, "next": next })))
}

pub(super) async fn one(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let (_, held) = find(&admin.shared, &id).await?;
    Ok(Json(json!(held.detail())))
}

/// The row of an id, and the database that it is in.
async fn find(shared: &Shared, text: &str) -> Result<(Database, Held), Failure> {
    let unknown = || Failure::unknown(format!("nothing is held under {text}"));
    let id = Id::parse(text).ok_or_else(unknown)?;
    for database in databases(shared) {
        let found = statements::find(&mut *look(&database).await?, &database.name, &id).await?;
        if let Some(held) = found {
            return Ok((database, held));
        }
    }
    Err(unknown())
}

/// Tries the first of its key now; the later ones follow it.
pub(super) async fn redrive(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (database, held) = find(&admin.shared, &id).await?;
    let filter = Filter { id: Some(held.row_id), ..Filter::default() };
    let redriven = redrive::all(&database, &filter).await?;
    if redriven.is_empty() {
        return Err(Failure::unknown(format!("{id} was handled meanwhile")));
    }
    tracing::info!(id, "redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

/// The same for every key of a plugin, or with this text in its reason.
pub(super) async fn redrive_many(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs);
    let filter =
        Filter { plugin: params.filter("plugin")?, reason: params.filter("reason")?, ..Filter::default() };
    params.finish()?;
    let mut redriven = Vec::new();
    for database in databases(&admin.shared) {
        redriven.extend(redrive::all(&database, &filter).await?);
    }
    tracing::info!(count = redriven.len(), "redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

pub(super) async fn discard(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (database, held) = find(&admin.shared, &id).await?;
    if !discard::discard(&database, &held).await? {
        return Err(Failure::unknown(format!("{id} was handled meanwhile")));
    }
    tracing::warn!(id, source = held.source(), reason = held.reason, "discarded");
    Ok(Json(json!({ "discarded": id })))
}
