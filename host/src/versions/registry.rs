//! The statements of `saga.component`, `saga.policy` and `saga.activation`: which versions of a plugin are
//! stored, and which is active. The database is the only truth; the file in the plugin folder is one way to
//! add a version.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use sqlx::{PgConnection, PgPool};

use crate::{fault_point, plugin::version::Version};

/// How many of the latest active versions of a plugin are stored. Versions with sagas in flight are stored in
/// addition.
const STORED_VERSIONS_MAX: i64 = 20;

/// `activated_by` of a version to which the rollback guard rolled back.
pub(crate) const ROLLBACK_GUARD: &str = "rollback-guard";

/// SHA-256 of a component, lower-case hex.
pub(crate) type Digest = String;

/// What the registry knows of a plugin's activations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Activations {
    /// The active digest.
    pub(crate) active: Option<Digest>,
    /// Whether the requested digest was ever active.
    pub(crate) known: bool,
}

/// An activation as it is stored.
pub(crate) struct Activation {
    /// Counts activations, from 1.
    pub(crate) generation: i64,
    /// When this generation was activated.
    pub(crate) since: SystemTime,
    /// When its digest was activated for the first time.
    pub(crate) first_since: SystemTime,
}

/// Stores a component and activates it. When it is active already, returns its present activation. With
/// `instead_of`, does so only while that digest is active; otherwise the decision came too late, and the
/// result is none.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn activate(
    pool: &PgPool,
    version: &Version,
    bytes: &[u8],
    by: &str,
    instead_of: Option<&str>,
) -> anyhow::Result<Option<Activation>> {
    let activating = || format!("activating {} {}", version.plugin, version.digest);
    let mut transaction = pool.begin().await.with_context(activating)?;
    serialize_activations(&mut transaction).await.with_context(activating)?;
    store_component(&mut transaction, version, bytes).await.with_context(activating)?;
    store_policy(&mut transaction, version).await.with_context(activating)?;
    let is_new = add_activation(&mut transaction, version, by, instead_of).await.with_context(activating)?;
    let (active, activation) = latest(&mut transaction, &version.plugin).await.with_context(activating)?;
    if active != version.digest {
        return Ok(None);
    }
    delete_old_components(&mut transaction, &version.plugin).await.with_context(activating)?;
    transaction.commit().await.with_context(activating)?;
    if is_new {
        fault_point::reach("after-activation-before-swap");
    }
    Ok(Some(activation))
}

/// Serializes activations on all hosts.
async fn serialize_activations(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("LOCK TABLE saga.activation IN SHARE ROW EXCLUSIVE MODE").execute(connection).await.map(drop)
}

/// Sends the component only when it is not stored yet, since it may be large.
async fn store_component(connection: &mut PgConnection, version: &Version, bytes: &[u8]) -> sqlx::Result<()> {
    let stored: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM saga.component WHERE plugin = $1 AND digest = $2)")
            .bind(&version.plugin)
            .bind(&version.digest)
            .fetch_one(&mut *connection)
            .await?;
    if stored {
        return Ok(());
    }
    sqlx::query("INSERT INTO saga.component (plugin, digest, body) VALUES ($1, $2, $3)")
        .bind(&version.plugin)
        .bind(&version.digest)
        .bind(bytes)
        .execute(connection)
        .await
        .map(drop)
}

async fn store_policy(connection: &mut PgConnection, version: &Version) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO saga.policy (digest, body) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(&version.policy.digest)
        .bind(&version.policy.text)
        .execute(connection)
        .await
        .map(drop)
}

/// Returns whether a row was added: not when the version is active already, or when `instead_of` is not.
async fn add_activation(
    connection: &mut PgConnection,
    version: &Version,
    by: &str,
    instead_of: Option<&str>,
) -> sqlx::Result<bool> {
    let added = sqlx::query(
        "WITH latest AS (
             SELECT generation, digest, policy_digest FROM saga.activation
              WHERE plugin = $1 ORDER BY generation DESC LIMIT 1)
         INSERT INTO saga.activation (plugin, generation, digest, policy_digest, version, activated_by)
         SELECT $1, coalesce((SELECT generation FROM latest), 0) + 1, $2, $3, $4, $5
          WHERE NOT EXISTS (SELECT FROM latest WHERE digest = $2 AND policy_digest = $3)
            AND ($6::text IS NULL OR EXISTS (SELECT FROM latest WHERE digest = $6))",
    )
    .bind(&version.plugin)
    .bind(&version.digest)
    .bind(&version.policy.digest)
    .bind(&version.manifest.version)
    .bind(by)
    .bind(instead_of)
    .execute(connection)
    .await?;
    Ok(added.rows_affected() > 0)
}

/// The active digest and its activation.
async fn latest(connection: &mut PgConnection, plugin: &str) -> sqlx::Result<(Digest, Activation)> {
    let (digest, generation, since_us, first_since_us): (Digest, i64, i64, i64) = sqlx::query_as(
        "SELECT digest, generation, (extract(epoch FROM activated_at) * 1000000)::bigint,
                (SELECT (extract(epoch FROM min(f.activated_at)) * 1000000)::bigint FROM saga.activation f
                  WHERE f.plugin = a.plugin AND f.digest = a.digest)
           FROM saga.activation a WHERE plugin = $1 ORDER BY generation DESC LIMIT 1",
    )
    .bind(plugin)
    .fetch_one(connection)
    .await?;
    let (since, first_since) = (instant(since_us), instant(first_since_us));
    Ok((digest, Activation { generation, since, first_since }))
}

/// Of microseconds since 1970.
fn instant(us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

async fn delete_old_components(connection: &mut PgConnection, plugin: &str) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM saga.component c
          WHERE c.plugin = $1
            AND c.digest NOT IN (SELECT digest FROM saga.activation WHERE plugin = $1
                                  GROUP BY digest ORDER BY max(generation) DESC LIMIT $2)
            AND NOT EXISTS (SELECT FROM saga.saga_live l WHERE l.plugin = $1 AND l.digest = c.digest)",
    )
    .bind(plugin)
    .bind(STORED_VERSIONS_MAX)
    .execute(connection)
    .await
    .map(drop)
}

/// Which digest is active, and whether `digest` ever was. A database or schema that does not exist has none.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn activations(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<Activations> {
    let found: Result<(Option<Digest>, bool), sqlx::Error> = sqlx::query_as(
        "SELECT (SELECT digest FROM saga.activation WHERE plugin = $1 ORDER BY generation DESC LIMIT 1),
                EXISTS (SELECT FROM saga.activation WHERE plugin = $1 AND digest = $2)",
    )
    .bind(plugin)
    .bind(digest)
    .fetch_one(pool)
    .await;
    match found {
        Ok((active, known)) => Ok(Activations { active, known }),
        Err(error) if is_missing(&error) => Ok(Activations::default()),
        Err(error) => Err(error).with_context(|| format!("reading which version of {plugin} is active")),
    }
}

/// Whether the database, schema or table does not exist.
fn is_missing(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| ["3D000", "3F000", "42P01"].contains(&&*code))
}

/// A stored version, with the policy of its last activation.
pub(crate) struct StoredVersion {
    /// The component.
    pub(crate) body: Vec<u8>,
    /// The text of its policy.
    pub(crate) policy: String,
    /// The generation of that activation.
    pub(crate) generation: i64,
    /// When that activation was recorded.
    pub(crate) since: SystemTime,
}

/// A version, if it is stored.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn stored_version(
    pool: &PgPool,
    plugin: &str,
    digest: &str,
) -> anyhow::Result<Option<StoredVersion>> {
    let stored: Option<(Vec<u8>, String, i64, i64)> = sqlx::query_as(
        "SELECT c.body, p.body, a.generation, (extract(epoch FROM a.activated_at) * 1000000)::bigint
           FROM saga.component c
           JOIN saga.activation a USING (plugin, digest)
           JOIN saga.policy p ON p.digest = a.policy_digest
          WHERE c.plugin = $1 AND c.digest = $2 ORDER BY a.generation DESC LIMIT 1",
    )
    .bind(plugin)
    .bind(digest)
    .fetch_optional(pool)
    .await
    .with_context(|| format!("reading version {digest} of {plugin} from the registry"))?;
    Ok(stored.map(|(body, policy, generation, since_us)| StoredVersion {
        body,
        policy,
        generation,
        since: instant(since_us),
    }))
}

/// Whether the rollback guard has replaced a version that was not activated since.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn withdrawn(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM saga.activation n
              WHERE n.plugin = $1 AND n.activated_by = $3
                AND n.generation = 1 + (SELECT max(generation) FROM saga.activation
                                         WHERE plugin = $1 AND digest = $2))",
    )
    .bind(plugin)
    .bind(digest)
    .bind(ROLLBACK_GUARD)
    .fetch_one(pool)
    .await
    .with_context(|| format!("reading whether {plugin} {digest} was withdrawn"))
}

/// How many sagas of a plugin are in flight, by the digest of the version that handles them. A database or
/// schema that does not exist has none.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn in_flight(pool: &PgPool, plugin: &str) -> anyhow::Result<HashMap<Digest, i64>> {
    let counted: Result<Vec<(Digest, i64)>, sqlx::Error> =
        sqlx::query_as("SELECT digest, count(*) FROM saga.saga_live WHERE plugin = $1 GROUP BY digest")
            .bind(plugin)
            .fetch_all(pool)
            .await;
    match counted {
        Ok(counted) => Ok(counted.into_iter().collect()),
        Err(error) if is_missing(&error) => Ok(HashMap::new()),
        Err(error) => Err(error).with_context(|| format!("counting the sagas of {plugin} in flight")),
    }
}

/// Digests of the stored versions, the last active first.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn stored_digests(pool: &PgPool, plugin: &str) -> anyhow::Result<Vec<Digest>> {
    sqlx::query_scalar(
        "SELECT digest FROM saga.component JOIN saga.activation USING (plugin, digest)
          WHERE plugin = $1 GROUP BY digest ORDER BY max(generation) DESC",
    )
    .bind(plugin)
    .fetch_all(pool)
    .await
    .with_context(|| format!("reading the versions of {plugin}"))
}

/// The version that was active before the first activation of `digest`, if it is stored. So two rollbacks go
/// back by two versions.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn previous_digest(
    pool: &PgPool,
    plugin: &str,
    digest: &str,
) -> anyhow::Result<Option<Digest>> {
    sqlx::query_scalar(
        "SELECT a.digest FROM saga.activation a JOIN saga.component c USING (plugin, digest)
          WHERE a.plugin = $1 AND a.digest <> $2
            AND a.generation < (SELECT min(generation) FROM saga.activation WHERE plugin = $1 AND digest = $2)
          ORDER BY a.generation DESC LIMIT 1",
    )
    .bind(plugin)
    .bind(digest)
    .fetch_optional(pool)
    .await
    .with_context(|| format!("reading which version of {plugin} was active before {digest}"))
}

/// Redrives what a plugin has parked since `since`: the first delivery of each key now, the later ones after
/// it.
///
/// # Errors
/// When Postgres is unreachable.
pub(crate) async fn redrive_parked(pool: &PgPool, plugin: &str, since: SystemTime) -> anyhow::Result<()> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    sqlx::query(
        "UPDATE saga.parked p SET retry_at = now()
          WHERE p.direction = 'in' AND p.plugin = $1
            AND p.parked_at >= 'epoch'::timestamptz + $2 * interval '1 us'
            AND NOT EXISTS (SELECT FROM saga.parked f
                             WHERE f.direction = 'in' AND f.plugin = p.plugin AND f.topic = p.topic
                               AND f.partition = p.partition AND f.key = p.key AND f.id < p.id)",
    )
    .bind(plugin)
    .bind(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    .execute(pool)
    .await
    .map(drop)
    .with_context(|| format!("redriving what {plugin} has parked"))
}
