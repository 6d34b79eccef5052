//! The statements of `saga.component` and `saga.activation`: which versions a plugin has had, and which is
//! active. The database is the truth; the file in the plugin folder is only how a version comes in.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use sqlx::PgPool;

use crate::{fault_point, plugin::version::Version};

/// Versions of a plugin that can be activated again: the last ones, and those with sagas in flight.
const VERSIONS_KEPT: i64 = 20;

/// Who activates a version in place of one that fails.
pub(crate) const BREAKER: &str = "breaker";

/// SHA-256 of a component, lower-case hex.
pub(crate) type Digest = String;

/// What a database knows of a plugin's activations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The active digest.
    pub(crate) active: Option<Digest>,
    /// Whether the digest that was asked for was ever active.
    pub(crate) known: bool,
}

/// An activation as it is recorded.
pub(crate) struct Recorded {
    /// Counts activations, from 1.
    pub(crate) generation: i64,
    /// Of this generation.
    pub(crate) since: SystemTime,
    /// When the digest was activated for the first time.
    pub(crate) first_since: SystemTime,
}

/// Keeps a component and records that it is active, under the generation that it has when it was active
/// already. With `instead_of`, only while that digest is the active one: whoever decided by it may be too
/// late. None when he is.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn activate(
    pool: &PgPool,
    version: &Version,
    bytes: &[u8],
    by: &str,
    instead_of: Option<&str>,
) -> anyhow::Result<Option<Recorded>> {
    let recording = || format!("recording that {} {} is active", version.plugin, version.digest);
    let mut transaction = pool.begin().await.with_context(recording)?;
    // One after the other, on all hosts.
    sqlx::query("LOCK TABLE saga.activation IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .with_context(recording)?;
    let kept: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM saga.component WHERE plugin = $1 AND digest = $2)")
            .bind(&version.plugin)
            .bind(&version.digest)
            .fetch_one(&mut *transaction)
            .await
            .with_context(recording)?;
    if !kept {
        sqlx::query("INSERT INTO saga.component (plugin, digest, body) VALUES ($1, $2, $3)")
            .bind(&version.plugin)
            .bind(&version.digest)
            .bind(bytes)
            .execute(&mut *transaction)
            .await
            .with_context(recording)?;
    }
    sqlx::query("INSERT INTO saga.policy (digest, body) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(&version.policy.digest)
        .bind(&version.policy.text)
        .execute(&mut *transaction)
        .await
        .with_context(recording)?;
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
    .execute(&mut *transaction)
    .await
    .with_context(recording)?;
    let (generation, digest, since, first_since): (i64, Digest, i64, i64) = sqlx::query_as(
        "SELECT generation, digest, (extract(epoch FROM activated_at) * 1000000)::bigint,
                (SELECT (extract(epoch FROM min(f.activated_at)) * 1000000)::bigint FROM saga.activation f
                  WHERE f.plugin = a.plugin AND f.digest = a.digest)
           FROM saga.activation a WHERE plugin = $1 ORDER BY generation DESC LIMIT 1",
    )
    .bind(&version.plugin)
    .fetch_one(&mut *transaction)
    .await
    .with_context(recording)?;
    if digest != version.digest {
        return Ok(None);
    }
    forget(&mut transaction, &version.plugin).await.with_context(recording)?;
    transaction.commit().await.with_context(recording)?;
    if added.rows_affected() > 0 {
        fault_point::reach("after-activation-before-swap");
    }
    Ok(Some(Recorded { generation, since: instant(since), first_since: instant(first_since) }))
}

/// Of microseconds since 1970.
fn instant(us: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

async fn forget(connection: &mut sqlx::PgConnection, plugin: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM saga.component c
          WHERE c.plugin = $1
            AND c.digest NOT IN (SELECT digest FROM saga.activation WHERE plugin = $1
                                  GROUP BY digest ORDER BY max(generation) DESC LIMIT $2)
            AND NOT EXISTS (SELECT FROM saga.saga_live l WHERE l.plugin = $1 AND l.version = c.digest)",
    )
    .bind(plugin)
    .bind(VERSIONS_KEPT)
    .execute(connection)
    .await
    .map(drop)
}

/// How a plugin stands, seen from the digest of its file. A database or schema that is not there knows
/// nothing.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn standing(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<Standing> {
    let asked: Result<(Option<Digest>, bool), sqlx::Error> = sqlx::query_as(
        "SELECT (SELECT digest FROM saga.activation WHERE plugin = $1 ORDER BY generation DESC LIMIT 1),
                EXISTS (SELECT FROM saga.activation WHERE plugin = $1 AND digest = $2)",
    )
    .bind(plugin)
    .bind(digest)
    .fetch_one(pool)
    .await;
    match asked {
        Ok((active, known)) => Ok(Standing { active, known }),
        Err(error) if is_missing(&error) => Ok(Standing::default()),
        Err(error) => Err(error).with_context(|| format!("asking which version of {plugin} is active")),
    }
}

/// No such database, schema or table.
fn is_missing(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| ["3D000", "3F000", "42P01"].contains(&&*code))
}

/// A version as its last activation had it.
pub(crate) struct Kept {
    /// The component.
    pub(crate) body: Vec<u8>,
    /// The text of its policy.
    pub(crate) policy: String,
    /// Of that activation.
    pub(crate) generation: i64,
    /// When that was.
    pub(crate) since: SystemTime,
}

/// A version that is kept.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn kept_version(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<Option<Kept>> {
    let kept: Option<(Vec<u8>, String, i64, i64)> = sqlx::query_as(
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
    .with_context(|| format!("reading {plugin} {digest}"))?;
    Ok(kept.map(|(body, policy, generation, since)| Kept { body, policy, generation, since: instant(since) }))
}

/// Whether the breaker has taken a version away, and nobody has activated it since.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn withdrawn(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM saga.activation n
              WHERE n.plugin = $1 AND n.activated_by = $3
                AND n.generation = 1 + (SELECT max(generation) FROM saga.activation WHERE plugin = $1 AND digest = $2))",
    )
    .bind(plugin)
    .bind(digest)
    .bind(BREAKER)
    .fetch_one(pool)
    .await
    .with_context(|| format!("asking whether {plugin} {digest} was taken away"))
}

/// How many sagas of a plugin are in flight, by the digest of the version that they stay with. A database or
/// schema that is not there has none.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn in_flight(pool: &PgPool, plugin: &str) -> anyhow::Result<HashMap<Digest, i64>> {
    let counted: Result<Vec<(Digest, i64)>, sqlx::Error> =
        sqlx::query_as("SELECT version, count(*) FROM saga.saga_live WHERE plugin = $1 GROUP BY version")
            .bind(plugin)
            .fetch_all(pool)
            .await;
    match counted {
        Ok(counted) => Ok(counted.into_iter().collect()),
        Err(error) if is_missing(&error) => Ok(HashMap::new()),
        Err(error) => Err(error).with_context(|| format!("counting the sagas of {plugin} in flight")),
    }
}

/// Digests that are kept, the last active first.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn kept(pool: &PgPool, plugin: &str) -> anyhow::Result<Vec<Digest>> {
    sqlx::query_scalar(
        "SELECT digest FROM saga.component JOIN saga.activation USING (plugin, digest)
          WHERE plugin = $1 GROUP BY digest ORDER BY max(generation) DESC",
    )
    .bind(plugin)
    .fetch_all(pool)
    .await
    .with_context(|| format!("reading the versions of {plugin}"))
}

/// The version that was active before `digest` was for the first time, if it is kept: going back
/// twice goes back by two.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn before(pool: &PgPool, plugin: &str, digest: &str) -> anyhow::Result<Option<Digest>> {
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
    .with_context(|| format!("looking for the version of {plugin} before {digest}"))
}

/// Has what a plugin holds since `since` tried again now: the first of each key, the others after it.
///
/// # Errors
/// When Postgres is away.
pub(crate) async fn redrive(pool: &PgPool, plugin: &str, since: SystemTime) -> anyhow::Result<()> {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    sqlx::query(
        "UPDATE saga.parked h SET retry_at = now()
          WHERE h.direction = 'in' AND h.plugin = $1 AND h.parked_at >= 'epoch'::timestamptz + $2 * interval '1 us'
            AND NOT EXISTS (SELECT FROM saga.parked f
                             WHERE f.direction = 'in' AND f.plugin = h.plugin AND f.topic = h.topic
                               AND f.partition = h.partition AND f.key = h.key AND f.id < h.id)",
    )
    .bind(plugin)
    .bind(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    .execute(pool)
    .await
    .map(drop)
    .with_context(|| format!("having what {plugin} holds tried again"))
}
