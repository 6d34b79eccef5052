//! Plugins and their versions, and how a new version comes in.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Admin, failure::Failure};
use crate::{
    model::saga_log::rfc3339,
    problem::Problem,
    rollout::{
        deploy::{DeployError, Deployed},
        service::Service,
        shared::Rejected,
    },
    versions::running::Counters,
};

/// Earlier versions without sagas in flight that are shown of one plugin.
const RETIRED_SHOWN_MAX: i64 = 10;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// The active one first.
    versions: Vec<Shown>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    version: Option<String>,
    digest: String,
    state: &'static str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statements: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u64>,
    sagas_in_flight: i64,
}

impl Shown {
    /// What this host has done with a version that it runs.
    fn counted(counters: &Counters) -> Self {
        let value = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed));
        Self {
            units: value(&counters.units),
            deliveries: value(&counters.deliveries),
            statements: value(&counters.statements),
            errors: value(&counters.errors),
            ..Self::default()
        }
    }
}

/// A version that the database knows of: digest, name, last activation, sagas in flight.
type Known = (String, Option<String>, Option<i64>, i64);

/// What has sagas in flight, and the last of what was ever active.
async fn known(service: &Service, retired_max: i64) -> Result<Vec<Known>, sqlx::Error> {
    sqlx::query_as(
        "WITH flying AS (SELECT digest, count(*) AS sagas FROM saga.saga_live WHERE plugin = $1 GROUP BY 1),
              activated AS (SELECT DISTINCT ON (digest) digest, version, activated_at FROM saga.activation
                             WHERE plugin = $1 ORDER BY digest, generation DESC),
              both_known AS (SELECT digest, a.version, (extract(epoch FROM a.activated_at) * 1000000)::bigint AS at,
                                    coalesce(f.sagas, 0) AS sagas
                               FROM activated a FULL JOIN flying f USING (digest))
         (SELECT * FROM both_known WHERE sagas > 0) UNION ALL
         (SELECT * FROM both_known WHERE sagas = 0 ORDER BY at DESC LIMIT $2)",
    )
    .bind(&service.name)
    .bind(retired_max + 1)
    .fetch_all(&service.database.admin)
    .await
}

async fn plugin(
    service: &Service,
    rejected: Option<Rejected>,
    retired_max: i64,
) -> Result<Plugin, sqlx::Error> {
    let active = service.active.load_full();
    let known = known(service, retired_max).await?;
    let digest = &active.version.digest;
    let mut versions = vec![Shown {
        version: Some(active.version.manifest.version.clone()),
        digest: digest.clone(),
        state: "active",
        since: instant(active.since),
        sagas_in_flight: known.iter().filter(|known| known.0 == *digest).map(|known| known.3).sum(),
        ..Shown::counted(&active.counters)
    }];
    let drains = service.draining.all();
    let mut retired = retired_max;
    for (digest, version, at, sagas_in_flight) in known.into_iter().filter(|known| known.0 != *digest) {
        let draining = sagas_in_flight > 0;
        retired -= i64::from(!draining);
        if draining || retired >= 0 {
            let state = if draining { "draining" } else { "retired" };
            let drain = drains.iter().find(|drain| draining && drain.running.version.digest == digest);
            let since = match drain {
                Some(drain) => instant(drain.since),
                None => at.map(rfc3339).unwrap_or_default(),
            };
            let counted = drain.map(|drain| Shown::counted(&drain.running.counters)).unwrap_or_default();
            versions.push(Shown { version, digest, state, since, sagas_in_flight, ..counted });
        }
    }
    versions.extend(rejected.map(refused));
    Ok(Plugin {
        name: service.name.clone(),
        database: Some(service.database.name.clone()),
        generation: Some(active.generation),
        versions,
    })
}

fn refused(rejected: Rejected) -> Shown {
    Shown {
        digest: rejected.digest,
        state: "rejected",
        since: instant(rejected.at),
        reason: Some(rejected.reason),
        ..Shown::default()
    }
}

fn instant(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn unknown(name: &str) -> Failure {
    Failure::unknown(format!("no plugin {name} on this host"))
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Failure> {
    let mut rejected: BTreeMap<String, Rejected> = admin.shared.rejected.read().clone();
    let mut plugins = Vec::new();
    for service in admin.shared.services() {
        plugins.push(plugin(&service, rejected.remove(&service.name), 0).await?);
    }
    plugins.extend(rejected.into_iter().map(|(name, rejected)| never_active(name, rejected)));
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(json!({ "plugins": plugins })))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let rejected = admin.shared.rejected.read().get(&name).cloned();
    let plugin = match (admin.shared.service(&name), rejected) {
        (Some(service), rejected) => plugin(&service, rejected, RETIRED_SHOWN_MAX).await?,
        (None, Some(rejected)) => never_active(name, rejected),
        (None, None) => return Err(unknown(&name)),
    };
    Ok(Json(json!(plugin)))
}

fn never_active(name: String, rejected: Rejected) -> Plugin {
    Plugin { name, database: None, generation: None, versions: vec![refused(rejected)] }
}

pub(super) async fn deploy(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    component: Bytes,
) -> Result<Json<Value>, Failure> {
    if headers.get(CONTENT_TYPE).is_none_or(|value| value.as_bytes() != b"application/wasm") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Unsupported media type",
            "the body is a component: application/wasm",
        )
        .into());
    }
    answer(&name, admin.shared.deploy(&name, component.to_vec(), "host API").await)
}

/// Which version to activate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Activate {
    /// Or the start of it.
    digest: String,
}

pub(super) async fn activate(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    wanted: Result<Json<Activate>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(Activate { digest }) = wanted.map_err(|rejection| {
        Problem::new(
            rejection.status(),
            "Bad request",
            format!("{}; wanted: {{\"digest\": …}}", rejection.body_text()),
        )
    })?;
    if !(1..=64).contains(&digest.len()) || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::parameter("digest", "the first hexadecimal digits of one, at most 64"));
    }
    answer(&name, admin.shared.activate(&name, &digest.to_ascii_lowercase(), "host API").await)
}

pub(super) async fn roll_back(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    answer(&name, admin.shared.roll_back(&name, "rollback").await)
}

fn answer(name: &str, done: Result<Deployed, DeployError>) -> Result<Json<Value>, Failure> {
    match done {
        Ok(deployed) => Ok(Json(json!({
            "name": name,
            "digest": deployed.digest,
            "version": deployed.version,
            "generation": deployed.generation,
            "was": deployed.was,
        }))),
        Err(DeployError::UnknownPlugin) => Err(unknown(name)),
        Err(DeployError::SameDigest(digest)) => {
            let detail = format!("{name} {digest} is active already");
            Err(Problem::new(StatusCode::CONFLICT, "Already active", detail).with("digest", digest).into())
        }
        Err(DeployError::Conflict(reason)) => {
            Err(Problem::new(StatusCode::CONFLICT, "Conflict", reason).into())
        }
        Err(DeployError::Rejected(reason)) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Component rejected", reason).into())
        }
        Err(DeployError::Environment(reason)) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not deployed", reason).into())
        }
    }
}
