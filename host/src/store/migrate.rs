//! Applies schema migrations: each once, in order, under a lock. There is no way back, and the text of an
//! applied migration may not change.
//!
//! The migrations of the host run under its own account. Those of a plugin run in a session of the role that
//! owns the plugins' tables, so their text cannot gain other rights: the session has no others to return to.

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::{Database, ProvisionError, apply, contracting::contracting};
use crate::{config::MigrationsMode, model::migration::Migration};

/// Key of the advisory lock that serializes hosts which start at the same time.
pub(super) const PROVISION_LOCK: i64 = 0x7361_6761;

/// The host's migration that creates the table of passwords.
pub(super) const ROLES_MIGRATION: &str = "0007_roles.sql";

/// Under which role migrations run.
#[derive(Clone, Copy, Debug)]
pub(super) enum RunAs<'a> {
    /// The host's own account.
    Account,
    /// The owner's role of this database.
    Owner(&'a Database),
}

/// The migrations of a version.
#[derive(Clone, Copy, Debug)]
pub struct Migrations<'a> {
    /// Sorted by name.
    pub all: &'a [Migration],
    /// The version's digest when its policy pins sagas in flight: while other versions have some, the
    /// migrations may only add. None when the policy moves them.
    pub pinning_version: Option<&'a str>,
}

/// The migrations of the host's own schema, `saga`.
pub(super) fn host_migrations() -> Vec<Migration> {
    [
        ("0001_base.sql", include_str!("../../../migrations/host/0001_base.sql")),
        ("0002_identity.sql", include_str!("../../../migrations/host/0002_identity.sql")),
        ("0003_relay.sql", include_str!("../../../migrations/host/0003_relay.sql")),
        ("0004_topics.sql", include_str!("../../../migrations/host/0004_topics.sql")),
        ("0005_partitions.sql", include_str!("../../../migrations/host/0005_partitions.sql")),
        ("0006_stored_formats.sql", include_str!("../../../migrations/host/0006_stored_formats.sql")),
        (ROLES_MIGRATION, include_str!("../../../migrations/host/0007_roles.sql")),
    ]
    .map(|(name, sql)| Migration { name: name.to_owned(), sql: sql.to_owned() })
    .to_vec()
}

/// Applies or checks the migrations of `owner`, which is `host` or a plugin.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    owner: &str,
    migrations: &Migrations<'_>,
    mode: MigrationsMode,
    run_as: RunAs<'_>,
) -> Result<(), ProvisionError> {
    if mode == MigrationsMode::Off {
        return Ok(());
    }
    for migration in migrations.all {
        let hash = hex::encode(Sha256::digest(&migration.sql));
        match applied_hash(connection, owner, &migration.name).await? {
            Some(applied_hash) if applied_hash == hash => {}
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
                if let Some(digest) = migrations.pinning_version {
                    refuse_contracting(connection, owner, digest, migration).await?;
                }
                match run_as {
                    RunAs::Account => apply::as_account(connection, owner, migration, &hash).await?,
                    RunAs::Owner(database) => apply::as_owner(database, owner, migration, &hash).await?,
                }
                tracing::info!(owner, migration = migration.name, "migration applied");
            }
        }
    }
    Ok(())
}

/// The migrations of the host and of a plugin that a database lacks, by file name. All of them when it has no
/// schema yet.
pub(super) async fn missing(
    connection: &mut PgConnection,
    plugin: &str,
    migrations: &[Migration],
) -> Result<Vec<String>, sqlx::Error> {
    let host = host_migrations();
    let all = host.iter().map(|migration| ("host", migration));
    let all = all.chain(migrations.iter().map(|migration| (plugin, migration)));
    let mut missing = Vec::new();
    for (owner, migration) in all {
        if applied_hash(connection, owner, &migration.name).await?.is_none() {
            missing.push(shown(owner, migration));
        }
    }
    Ok(missing)
}

/// The same for a database that does not exist.
pub(super) fn all(plugin: &str, migrations: &[Migration]) -> Vec<String> {
    let host = host_migrations();
    let host = host.iter().map(|migration| shown("host", migration));
    host.chain(migrations.iter().map(|migration| shown(plugin, migration))).collect()
}

fn shown(owner: &str, migration: &Migration) -> String {
    format!("{} of {owner}", migration.name)
}

/// Whether the table of applied migrations exists.
pub(super) async fn has_table(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass('saga.migration') IS NOT NULL").fetch_one(connection).await
}

/// SHA-256 of the text that was applied, lower-case hex.
async fn applied_hash(
    connection: &mut PgConnection,
    owner: &str,
    name: &str,
) -> Result<Option<String>, sqlx::Error> {
    if !has_table(connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT sha256 FROM saga.migration WHERE owner = $1 AND name = $2")
        .bind(owner)
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// Refuses a migration that does more than add while earlier versions have sagas in flight, since these
/// versions still run.
async fn refuse_contracting(
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::path::Path;

    use super::host_migrations;

    #[test]
    fn every_host_migration_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/host");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort_unstable();
        let embedded: Vec<String> = host_migrations().into_iter().map(|migration| migration.name).collect();
        assert_eq!(embedded, files);
    }
}
