//! Sagas: search, and the timeline of one.

mod row;
mod statements;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};

pub(super) use self::statements::{InFlight, in_flight};
use self::statements::{SagaCursor, SagaFilter};
use super::{
    Admin,
    database::{databases, read_only},
    failure::Failure,
    ignored,
    paging::{Pairs, Params, cut},
    path,
};
use crate::{rollout::services::Services, store::Database};

/// Databases by name; in each, newest first if keys are ids that ascend in time.
pub(super) async fn search(
    State(admin): State<Admin>,
    Query(pairs): Query<Pairs>,
) -> Result<Json<Value>, Failure> {
    let mut params = Params::new(pairs)?;
    let limit = params.limit()?;
    let cursor: Option<SagaCursor> = params.cursor()?;
    let filter = SagaFilter {
        saga_type: params.filter("type")?,
        key: params.filter("key")?,
        state: params.filter("state")?,
    };
    params.finish()?;
    let mut found = Vec::new();
    for database in databases(&admin.services) {
        let after = match &cursor {
            Some(cursor) if database.name < cursor.database => continue,
            Some(cursor) if database.name == cursor.database => Some(cursor),
            _ => None,
        };
        let missing = limit + 1 - i64::try_from(found.len()).unwrap_or(i64::MAX);
        if missing <= 0 {
            break;
        }
        let mut reading = read_only(&database).await?;
        found.extend(statements::search(&mut reading, &database.name, &filter, after, missing).await?);
    }
    let next = cut(&mut found, limit, row::SagaRow::cursor);
    let sagas: Vec<row::Summary> = found.into_iter().map(row::SagaRow::summary).collect();
    Ok(Json(json!({ "sagas": sagas, "next": next })))
}

/// Finds the key in upper and lower case.
pub(super) async fn timeline(
    State(admin): State<Admin>,
    Path((saga_type, key)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let (saga_type, key) = (path::text("type", saga_type)?, path::text("key", key)?);
    for database in owners_first(&admin.services, &saga_type) {
        let mut reading = read_only(&database).await?;
        if let Some(row) = statements::find(&mut reading, &database.name, &saga_type, &key).await? {
            let ignored = ignored::list(&mut reading, &row.plugin, &row.key).await?;
            return Ok(Json(json!(row.timeline(ignored))));
        }
    }
    Err(Failure::unknown(format!("no saga {saga_type}/{key}")))
}

/// All databases, first those of plugins that own the type.
fn owners_first(services: &Services, saga_type: &str) -> Vec<Database> {
    let running = services.all();
    let owns = |name: &str| {
        running.iter().any(|service| {
            service.backend.database.name == name
                && service.versions.active().version.manifest.sagas.iter().any(|owned| owned == saga_type)
        })
    };
    let mut all = databases(services);
    all.sort_by_key(|database| !owns(&database.name));
    all
}
