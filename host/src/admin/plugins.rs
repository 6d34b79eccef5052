//! Plugins and their versions: show them, deploy, activate, roll back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Admin, COMPONENT_BYTES_MAX, failure::Failure, path};
use crate::{
    ingress::http::not_running::Cause,
    listener::body,
    model::{plugin_name::PluginName, saga_log::rfc3339},
    problem::Problem,
    rollout::{
        deploy::{DeployError, Deployed},
        service::Service,
        services::{Awaited, Rejected},
    },
    versions::running::Counters,
};

/// Retired versions of one plugin that are shown, the latest first.
const RETIRED_SHOWN_MAX: i64 = 10;
const ACTIVATE_BYTES_MAX: usize = 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PluginView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// The active one first.
    versions: Vec<VersionView>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionView {
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

impl VersionView {
    /// The counters of a version that this host runs.
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

/// A version in the database.
struct KnownVersion {
    digest: String,
    version: Option<String>,
    activated_at_us: Option<i64>,
    sagas_in_flight: i64,
}

/// The versions with sagas in flight, and the latest of the others that were ever active.
async fn known_versions(service: &Service, retired_max: i64) -> Result<Vec<KnownVersion>, sqlx::Error> {
    let rows: Vec<(String, Option<String>, Option<i64>, i64)> = sqlx::query_as(
        "WITH live AS (SELECT digest, count(*) AS sagas FROM saga.saga_live
                        WHERE plugin = $1 GROUP BY 1),
              activated AS (SELECT DISTINCT ON (digest) digest, version, activated_at FROM saga.activation
                             WHERE plugin = $1 ORDER BY digest, generation DESC),
              known AS (SELECT digest, a.version,
                               (extract(epoch FROM a.activated_at) * 1000000)::bigint AS activated_at_us,
                               coalesce(l.sagas, 0) AS sagas_in_flight
                          FROM activated a FULL JOIN live l USING (digest))
         (SELECT * FROM known WHERE sagas_in_flight > 0) UNION ALL
         (SELECT * FROM known WHERE sagas_in_flight = 0 ORDER BY activated_at_us DESC LIMIT $2)",
    )
    .bind(service.name().as_str())
    .bind(retired_max + 1)
    .fetch_all(&service.backend.database.admin)
    .await?;
    let known = |(digest, version, activated_at_us, sagas_in_flight)| KnownVersion {
        digest,
        version,
        activated_at_us,
        sagas_in_flight,
    };
    Ok(rows.into_iter().map(known).collect())
}

async fn plugin(
    service: &Service,
    rejected: Option<Rejected>,
    retired_max: i64,
) -> Result<PluginView, sqlx::Error> {
    let active = service.versions.active();
    let known = known_versions(service, retired_max).await?;
    let digest = &active.version.digest;
    let mut versions = vec![VersionView {
        version: Some(active.version.manifest.version.clone()),
        digest: digest.clone(),
        state: "active",
        since: instant(active.since),
        sagas_in_flight: known
            .iter()
            .filter(|known| known.digest == *digest)
            .map(|known| known.sagas_in_flight)
            .sum(),
        ..VersionView::counted(&active.counters)
    }];
    let drains = service.versions.draining().all();
    let mut retired = retired_max;
    for known in known.into_iter().filter(|known| known.digest != *digest) {
        let KnownVersion { digest, version, activated_at_us, sagas_in_flight } = known;
        let draining = sagas_in_flight > 0;
        retired -= i64::from(!draining);
        if draining || retired >= 0 {
            let state = if draining { "draining" } else { "retired" };
            let drain = drains.iter().find(|drain| draining && drain.running.version.digest == digest);
            let since = match drain {
                Some(drain) => instant(drain.since),
                None => activated_at_us.map(rfc3339).unwrap_or_default(),
            };
            let counted =
                drain.map(|drain| VersionView::counted(&drain.running.counters)).unwrap_or_default();
            versions.push(VersionView { version, digest, state, since, sagas_in_flight, ..counted });
        }
    }
    versions.extend(rejected.map(refused));
    Ok(PluginView {
        name: service.name().to_string(),
        database: Some(service.backend.database.name.clone()),
        generation: Some(active.generation),
        versions,
    })
}

fn refused(rejected: Rejected) -> VersionView {
    VersionView {
        digest: rejected.digest,
        state: "rejected",
        since: instant(rejected.at),
        reason: Some(rejected.reason),
        ..VersionView::default()
    }
}

fn instant(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn unknown(name: &str) -> Failure {
    Failure::unknown(format!("this host has no plugin {name}"))
}

/// A version that waits for Postgres or Kafka. One that was refused is listed as rejected.
fn waiting(awaited: Awaited) -> Option<VersionView> {
    let Awaited { digest, reason, at, not_running } = awaited;
    (not_running.cause == Cause::Outage).then(|| VersionView {
        digest,
        state: "waiting",
        since: instant(at),
        reason: Some(reason),
        ..VersionView::default()
    })
}

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Failure> {
    let mut rejected: BTreeMap<PluginName, Rejected> = admin.services.rejections();
    let mut plugins = Vec::new();
    for service in admin.services.all() {
        plugins.push(plugin(&service, rejected.remove(service.name()), 0).await?);
    }
    let mut awaited = admin.services.awaited();
    let absent: BTreeSet<PluginName> = rejected.keys().chain(awaited.keys()).cloned().collect();
    for name in absent {
        let (waits, rejected) = (awaited.remove(&name).and_then(waiting), rejected.remove(&name));
        plugins.extend(never_active(name, waits, rejected));
    }
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(json!({ "plugins": plugins })))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let name = path::plugin(&name)?;
    let rejected = admin.services.rejection(&name);
    if let Some(service) = admin.services.find(&name) {
        return Ok(Json(json!(plugin(&service, rejected, RETIRED_SHOWN_MAX).await?)));
    }
    let waits = admin.services.awaited().remove(&name).and_then(waiting);
    never_active(name.clone(), waits, rejected)
        .map(|plugin| Json(json!(plugin)))
        .ok_or_else(|| unknown(&name))
}

/// A plugin of which no version runs here; none when there is nothing to show of it.
fn never_active(
    name: PluginName,
    waits: Option<VersionView>,
    rejected: Option<Rejected>,
) -> Option<PluginView> {
    let versions: Vec<VersionView> = waits.into_iter().chain(rejected.map(refused)).collect();
    (!versions.is_empty()).then(|| PluginView {
        name: name.to_string(),
        database: None,
        generation: None,
        versions,
    })
}

pub(super) async fn deploy(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    component: Body,
) -> Result<Json<Value>, Failure> {
    let name = path::plugin(&name)?;
    if headers.get(CONTENT_TYPE).is_none_or(|value| value.as_bytes() != b"application/wasm") {
        return Err(unsupported("the body must be a component: application/wasm"));
    }
    let component = body::read(&headers, component, COMPONENT_BYTES_MAX, admin.component_within).await?;
    answer(&name, admin.rollout.deploy(&name, &component, "host API").await)
}

fn unsupported(detail: &str) -> Failure {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", detail).into()
}

/// Which version to activate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Activate {
    /// Its first digits are enough.
    digest: String,
}

pub(super) async fn activate(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    wanted: Body,
) -> Result<Json<Value>, Failure> {
    let name = path::plugin(&name)?;
    if headers.get(CONTENT_TYPE).is_none_or(|value| !value.as_bytes().starts_with(b"application/json")) {
        return Err(unsupported("the body must be application/json: {\"digest\": …}"));
    }
    let wanted = body::read(&headers, wanted, ACTIVATE_BYTES_MAX, admin.component_within).await?;
    let Activate { digest } = serde_json::from_slice(&wanted).map_err(|error| {
        let detail = format!("{error}; expected {{\"digest\": …}}");
        Problem::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    })?;
    if !(1..=64).contains(&digest.len()) || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::parameter("digest", "must be the first 1 to 64 hexadecimal digits of a digest"));
    }
    answer(&name, admin.rollout.activate(&name, &digest.to_ascii_lowercase(), "host API").await)
}

pub(super) async fn roll_back(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let name = path::plugin(&name)?;
    answer(&name, admin.rollout.roll_back(&name, "rollback").await)
}

fn answer(name: &PluginName, done: Result<Deployed, DeployError>) -> Result<Json<Value>, Failure> {
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
            let detail = format!("{name} {digest} is already active");
            Err(Problem::new(StatusCode::CONFLICT, "Already active", detail).with("digest", digest).into())
        }
        Err(DeployError::Conflict(reason)) => {
            Err(Problem::new(StatusCode::CONFLICT, "Conflict", reason).into())
        }
        Err(DeployError::Rejected(reason)) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Component rejected", reason).into())
        }
        Err(DeployError::Environment(reason)) => {
            tracing::warn!(plugin = %name, reason, "plugin not deployed: Postgres, Kafka or the disk failed");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not deployed", reason).into())
        }
    }
}
