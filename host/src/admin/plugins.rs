//! Plugins and their versions: show them, deploy, activate, roll back.

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
        services::Rejected,
    },
    versions::running::Counters,
};

/// Retired versions of one plugin that are shown, the latest first.
const RETIRED_SHOWN_MAX: i64 = 10;

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
    .bind(service.name())
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
        name: service.name().to_owned(),
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

pub(super) async fn list(State(admin): State<Admin>) -> Result<Json<Value>, Failure> {
    let mut rejected: BTreeMap<String, Rejected> = admin.services.rejections();
    let mut plugins = Vec::new();
    for service in admin.services.all() {
        plugins.push(plugin(&service, rejected.remove(service.name()), 0).await?);
    }
    plugins.extend(rejected.into_iter().map(|(name, rejected)| never_active(name, rejected)));
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(json!({ "plugins": plugins })))
}

pub(super) async fn one(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let rejected = admin.services.rejection(&name);
    let plugin = match (admin.services.find(&name), rejected) {
        (Some(service), rejected) => plugin(&service, rejected, RETIRED_SHOWN_MAX).await?,
        (None, Some(rejected)) => never_active(name, rejected),
        (None, None) => return Err(unknown(&name)),
    };
    Ok(Json(json!(plugin)))
}

fn never_active(name: String, rejected: Rejected) -> PluginView {
    PluginView { name, database: None, generation: None, versions: vec![refused(rejected)] }
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
            "the body must be a component: application/wasm",
        )
        .into());
    }
    answer(&name, admin.rollout.deploy(&name, &component, "host API").await)
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
    wanted: Result<Json<Activate>, JsonRejection>,
) -> Result<Json<Value>, Failure> {
    let Json(Activate { digest }) = wanted.map_err(|rejection| {
        Problem::new(
            rejection.status(),
            "Bad request",
            format!("{}; expected {{\"digest\": …}}", rejection.body_text()),
        )
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
    answer(&name, admin.rollout.roll_back(&name, "rollback").await)
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
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Not deployed", reason).into())
        }
    }
}
