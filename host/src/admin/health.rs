//! `/healthz` and `/readyz`. A host that is not ready names each part that is not, and why.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Admin,
    database::{databases, ping},
    failure::Failure,
};
use crate::{problem::Problem, store::Database};

const POSTGRES_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

pub(super) async fn ready(State(admin): State<Admin>) -> Result<Json<Value>, Failure> {
    let mut troubles = admin.services.problems();
    troubles.extend(admin.services.starting().map(|reason| ("plugins".to_owned(), reason)));
    troubles.extend(join_all(databases(&admin.services).iter().map(postgres)).await.into_iter().flatten());
    if let Err(reason) = admin.kafka.answers().await {
        troubles.push(("kafka".to_owned(), reason));
    }
    if troubles.is_empty() {
        return Ok(Json(json!({ "status": "ready" })));
    }
    let detail: Vec<String> = troubles.iter().map(|(part, reason)| format!("{part}: {reason}")).collect();
    let parts: Vec<Value> =
        troubles.iter().map(|(part, reason)| json!({ "part": part, "reason": reason })).collect();
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not ready", detail.join("; "))
        .with("parts", parts)
        .into())
}

async fn postgres(database: &Database) -> Option<(String, String)> {
    let asked = timeout(POSTGRES_ANSWERS_WITHIN, async { ping(&mut *database.admin.acquire().await?).await });
    let reason = match asked.await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", POSTGRES_ANSWERS_WITHIN.as_secs()),
    };
    Some((format!("postgres {}", database.name), reason))
}
