//! Applies one migration and records it, in one transaction.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Database, ProvisionError, login::is_refused, roles::sqlstate};
use crate::model::migration::Migration;

/// Waits for a lock for a moment only. Whoever uses the table waits behind it, also the units of running
/// hosts, and what holds the lock can take hours, e.g. a dump.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'";
/// What to do about a lock.
const LOCKED: &str = ". A transaction that is still open has used the table, e.g. of a dump or of an idle \
                      session: wait for its end, or end it. The oldest is the first of: SELECT pid, usename, \
                      application_name, xact_start FROM pg_stat_activity WHERE datname = current_database() \
                      AND xact_start IS NOT NULL ORDER BY xact_start";

/// Applies a migration of the host.
pub(super) async fn as_account(
    connection: &mut PgConnection,
    owner: &str,
    migration: &Migration,
    hash: &str,
) -> Result<(), ProvisionError> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    sqlx::raw_sql(AssertSqlSafe(migration.sql.clone()))
        .execute(&mut *transaction)
        .await
        .map_err(|source| failed(owner, migration, source))?;
    sqlx::query("INSERT INTO saga.migration (owner, name, sha256) VALUES ($1, $2, $3)")
        .bind(owner)
        .bind(&migration.name)
        .bind(hash)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

/// Applies a plugin's migration in a session of its own, so it leaves no settings to the next one.
pub(super) async fn as_owner(
    database: &Database,
    plugin: &str,
    migration: &Migration,
    hash: &str,
) -> Result<(), ProvisionError> {
    let role = database.owner_role();
    let mut session = match database.connect_owner().await {
        Ok(session) => session,
        Err(source) if is_refused(&source) => return Err(ProvisionError::CannotLogIn { role, source }),
        Err(error) => return Err(error.into()),
    };
    let refused = |source: sqlx::Error| match sqlstate(&source).as_deref() {
        Some("42501") => {
            let (owner, name, advice) = (plugin.to_owned(), migration.name.as_str().into(), Box::default());
            ProvisionError::MigrationDenied { owner, name, role: role.as_str().into(), source, advice }
        }
        _ => failed(plugin, migration, source),
    };
    let mut transaction = session.begin_with(BEGIN).await?;
    sqlx::raw_sql(AssertSqlSafe(migration.sql.clone())).execute(&mut *transaction).await.map_err(refused)?;
    sqlx::query("SELECT saga.record_migration($1, $2, $3)")
        .bind(plugin)
        .bind(&migration.name)
        .bind(hash)
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
    transaction.commit().await.map_err(refused)?;
    // When closing fails, the connection is dropped, and the server notices that too.
    let _closed = session.close().await;
    Ok(())
}

/// What a lock, another transaction or the end of the connection has prevented is tried again. Whatever else
/// fails, fails again.
fn failed(owner: &str, migration: &Migration, source: sqlx::Error) -> ProvisionError {
    let (owner, name) = (owner.to_owned(), migration.name.clone());
    match sqlstate(&source).as_deref() {
        Some("55P03") => ProvisionError::MigrationPostponed { owner, name, source, advice: LOCKED },
        Some("40001" | "40P01" | "57P01" | "57P02" | "57P03") => {
            ProvisionError::MigrationPostponed { owner, name, source, advice: "" }
        }
        None if matches!(source, sqlx::Error::Io(_)) => {
            ProvisionError::MigrationPostponed { owner, name, source, advice: "" }
        }
        _ => ProvisionError::MigrationFailed { owner, name, source },
    }
}
