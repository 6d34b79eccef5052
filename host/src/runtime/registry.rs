//! The statements of `saga.activation`: which version of a plugin is active, and since when.

use anyhow::Context;
use sqlx::PgPool;

use crate::plugin::version::Version;

/// Records that a version is active; its generation, which stays when it was active already.
///
/// # Errors
/// When Postgres is away.
pub(super) async fn activate(pool: &PgPool, version: &Version, by: &str) -> anyhow::Result<i64> {
    sqlx::query_scalar(
        "WITH latest AS (
             SELECT generation, digest, policy_digest FROM saga.activation
              WHERE plugin = $1 ORDER BY generation DESC LIMIT 1),
         made AS (
             INSERT INTO saga.activation (plugin, generation, digest, policy_digest, version, activated_by)
             SELECT $1, coalesce((SELECT generation FROM latest), 0) + 1, $2, $3, $4, $5
              WHERE NOT EXISTS (SELECT FROM latest WHERE digest = $2 AND policy_digest = $3)
             RETURNING generation)
         SELECT generation FROM made UNION ALL SELECT generation FROM latest ORDER BY generation DESC LIMIT 1",
    )
    .bind(&version.plugin)
    .bind(&version.digest)
    .bind(&version.policy.digest)
    .bind(&version.manifest.version)
    .bind(by)
    .fetch_one(pool)
    .await
    .with_context(|| format!("recording that {} {} is active", version.plugin, version.digest))
}
