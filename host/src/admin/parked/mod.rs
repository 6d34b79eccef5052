//! Parked deliveries, and records that Kafka refused: list and show them, redrive them in the order of their
//! key, or discard them. Discarding is recorded.

mod statements;
mod view;

use std::cmp::Reverse;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};

pub(super) use self::statements::{ParkedCount, counts};
use self::{
    statements::{ParkedCursor, ParkedFilter},
    view::{Parked, ParkedId},
};
use super::{
    Admin,
    database::{databases, read_only},
    failure::Failure,
    ignored,
    paging::{Pairs, Params, cut},
};
use crate::{rollout::services::Services, store::Database};

/// `retrying`: a retry is scheduled. `queued`: behind an earlier one of its key. `dead_letter`: waits for a
/// person.
const STATES: [&str; 3] = ["retrying", "queued", "dead_letter"];

/// Newest first.
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs)?;
    let limit = params.limit()?;
    let cursor: Option<ParkedCursor> = params.cursor()?;
    let filter = ParkedFilter {
        plugin: params.filter("plugin")?,
        reason: params.filter("reason")?,
        key: params.filter("key")?,
        state: params.filter("state")?,
        id: None,
    };
    if filter.state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(Failure::parameter("state", &format!("must be one of {}", STATES.join(", "))));
    }
    params.finish()?;
    let mut parked = Vec::new();
    for database in databases(&admin.services) {
        let mut reading = read_only(&database).await?;
        let page = statements::list(&mut reading, &database.name, &filter, cursor.as_ref(), limit + 1);
        parked.extend(page.await?);
    }
    parked.sort_by_key(|entry: &Parked| Reverse(entry.cursor()));
    let next = cut(&mut parked, limit, Parked::cursor);
    Ok(Json(json!({ "parked": parked, "next": next })))
}

pub(super) async fn one(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let (_, parked) = find(&admin.services, &id).await?;
    Ok(Json(json!(parked.detail())))
}

/// The parked entry of an id, and the database that it is in.
async fn find(services: &Services, text: &str) -> Result<(Database, Parked), Failure> {
    let unknown = || Failure::unknown(format!("nothing is parked under the id {text}"));
    let id = ParkedId::parse(text).ok_or_else(unknown)?;
    for database in databases(services) {
        let found = statements::find(&mut *read_only(&database).await?, &database.name, &id).await?;
        if let Some(parked) = found {
            return Ok((database, parked));
        }
    }
    Err(unknown())
}

/// Redrives the first entry of its key now; later ones follow.
pub(super) async fn redrive(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (database, parked) = find(&admin.services, &id).await?;
    let filter = ParkedFilter { id: Some(parked.row_id), ..ParkedFilter::default() };
    let redriven = statements::redrive(&mut *database.admin.acquire().await?, &filter).await?;
    if redriven.is_empty() {
        return Err(no_longer_parked(&id));
    }
    tracing::info!(id, "parked delivery redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

/// Redrives every key, or those of one plugin or with a text in the reason.
pub(super) async fn redrive_many(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs)?;
    let filter = ParkedFilter {
        plugin: params.filter("plugin")?,
        reason: params.filter("reason")?,
        ..ParkedFilter::default()
    };
    params.finish()?;
    let mut redriven = Vec::new();
    for database in databases(&admin.services) {
        redriven.extend(statements::redrive(&mut *database.admin.acquire().await?, &filter).await?);
    }
    tracing::info!(count = redriven.len(), "parked deliveries redriven");
    Ok(Json(json!({ "redriven": redriven })))
}

/// Deletes the entry and records that a person did so. The delivery queued behind it is tried next.
pub(super) async fn discard(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let (database, parked) = find(&admin.services, &id).await?;
    let mut transaction = database.admin.begin().await?;
    if !statements::delete(&mut transaction, &parked.plugin, parked.row_id).await? {
        return Err(no_longer_parked(&id));
    }
    let (source, reason) = (parked.source(), format!("discarded: {}", parked.reason));
    ignored::record(&mut transaction, &parked.plugin, &source, parked.key.as_deref(), &reason).await?;
    transaction.commit().await?;
    tracing::warn!(id, source, reason = parked.reason, "parked delivery discarded");
    Ok(Json(json!({ "discarded": id })))
}

fn no_longer_parked(id: &str) -> Failure {
    Failure::unknown(format!("{id} is no longer parked: it was handled or discarded in the meantime"))
}
