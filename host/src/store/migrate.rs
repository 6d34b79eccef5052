//! Schema changes, forward only: each is applied once, in order, under a lock, and its text may
//! not change afterwards.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{contracting::contracting, provision::ProvisionError};
use crate::{config::MigrationsMode, model::migration::Migration};

/// The advisory lock that hosts starting at the same time take turns with.
pub(super) const LOCK: i64 = 0x7361_6761;

/// What a version brings.
#[derive(Clone, Copy, Debug)]
pub struct Migrations<'a> {
    /// Sorted by name.
    pub all: &'a [Migration],
    /// The version's digest, when sagas in flight stay with the versions pinning_version it.
    pub pinning_version: Option<&'a str>,
}

/// The host's own schema, `saga`.
pub(crate) fn host_migrations() -> Vec<Migration> {
    [("0001_base.sql", include_str!("../../../migrations/host/0001_base.sql"))]
        .map(|(name, sql)| Migration { name: name.to_owned(), sql: sql.to_owned() })
        .to_vec()
}

/// Brings `owner`'s part of the database up to date, or says what is missing.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    owner: &str,
    wanted: &Migrations<'_>,
    mode: MigrationsMode,
) -> Result<(), ProvisionError> {
    if mode == MigrationsMode::Off {
        return Ok(());
    }
    for migration in wanted.all {
        let hash = hex::encode(Sha256::digest(&migration.sql));
        match applied(connection, owner, &migration.name).await? {
            Some(known) if known == hash => {}
            Some(_) => {
                return Err(ProvisionError::MigrationChanged {
                    owner: owner.to_owned(),
                    name: migration.name.clone(),
                });
            }
            None if mode == MigrationsMode::Check => {
                return Err(ProvisionError::MigrationMissing {
                    owner: owner.to_owned(),
                    name: migration.name.clone(),
                });
            }
            None => {
                if let Some(digest) = wanted.pinning_version {
                    breaks_nothing(connection, owner, digest, migration).await?;
                }
                apply(connection, owner, migration, &hash).await?;
            }
        }
    }
    Ok(())
}

async fn applied(
    connection: &mut PgConnection,
    owner: &str,
    name: &str,
) -> Result<Option<String>, sqlx::Error> {
    let table: bool = sqlx::query_scalar("SELECT to_regclass('saga.migration') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !table {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT sha256 FROM saga.migration WHERE owner = $1 AND name = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Earlier versions run on as long as they have sagas in flight.
async fn breaks_nothing(
    connection: &mut PgConnection,
    owner: &str,
    digest: &str,
    migration: &Migration,
) -> Result<(), ProvisionError> {
    let Some(statement) = contracting(&migration.sql) else { return Ok(()) };
    let sagas: i64 =
        sqlx::query_scalar("SELECT count(*) FROM saga.saga_live WHERE plugin = $1 AND digest <> $2")
            .bind(owner)
            .bind(digest)
            .fetch_one(connection)
            .await?;
    if sagas == 0 {
        return Ok(());
    }
    let (owner, name) = (owner.to_owned(), migration.name.clone());
    Err(ProvisionError::MigrationContracts { owner, name, statement, sagas })
}

async fn apply(
    connection: &mut PgConnection,
    owner: &str,
    migration: &Migration,
    hash: &str,
) -> Result<(), ProvisionError> {
    let failed = |source| ProvisionError::MigrationFailed {
        owner: owner.to_owned(),
        name: migration.name.clone(),
        source,
    };
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(migration.sql.clone())).execute(&mut *transaction).await.map_err(failed)?;
    sqlx::query("INSERT INTO saga.migration (owner, name, sha256) VALUES ($1, $2, $3)")
        .bind(owner)
        .bind(&migration.name)
        .bind(hash)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    tracing::info!(owner, migration = migration.name, "migration applied");
    Ok(())
}
