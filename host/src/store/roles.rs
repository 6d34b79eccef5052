//! The roles that the host logs in as beside its own account: that of a plugin's units, and that which owns
//! the plugins' tables. Their passwords are rows of `saga.role_password`, which only the host's account may
//! read, so every host on a database has the same ones, and they do not depend on the account.

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgDatabaseError};

use super::{
    Database, ProvisionError,
    login::is_refused,
    migrate::ROLES_MIGRATION,
    quote_ident, quote_literal,
    rights::{Kind, Measure},
};

/// Bytes of an identifier in Postgres.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// How often a role is set right before its login must succeed: another host may do the same in another
/// database, since roles belong to the server.
const ATTEMPTS_MAX: u32 = 3;

/// The Postgres role of a plugin's units.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PluginRole {
    /// The plugin's name.
    pub plugin: String,
    /// The role's name in Postgres.
    pub name: String,
}

impl Database {
    /// The role that owns the plugins' tables and runs their migrations: one for each database.
    #[must_use]
    pub fn owner_role(&self) -> String {
        let name = format!("saga_owner_{}", self.name);
        if name.len() <= IDENTIFIER_BYTES_MAX {
            return name;
        }
        let digest = hex::encode(Sha256::digest(&self.name));
        format!("saga_owner_{}", digest.get(..32).unwrap_or_default())
    }
}

/// The SQLSTATE of an error of the server.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    Some(error.downcast_ref::<PgDatabaseError>().code().to_owned())
}

/// Creates the role, or lets it log in again with its stored password. Returns what only an administrator may
/// do of that.
pub(super) async fn ensure(
    connection: &mut PgConnection,
    database: &Database,
    role: &str,
) -> Result<Vec<Measure>, ProvisionError> {
    for _ in 0..ATTEMPTS_MAX {
        let exists = exists(connection, database, role).await?;
        let password = password(connection, database, role, exists).await?;
        if exists {
            match log_in(database, role, &password).await {
                Ok(()) => return Ok(Vec::new()),
                Err(error) if is_refused(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let statement = statement(role, exists);
        let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *connection).await;
        let Err(error) = done else { continue };
        match sqlstate(&error).as_deref() {
            // Another host creates the role at this moment, or changes it.
            Some("42710" | "23505" | "XX000") => {}
            Some("42501") => return Ok(vec![missing(role, exists, statement)]),
            _ => return Err(error.into()),
        }
    }
    let password = password(connection, database, role, true).await?;
    match log_in(database, role, &password).await {
        Ok(()) => Ok(Vec::new()),
        Err(source) => Err(ProvisionError::CannotLogIn { role: role.to_owned(), source }),
    }
}

fn missing(role: &str, exists: bool, statement: String) -> Measure {
    let finding = if exists {
        format!("role {role} cannot log in with the password that is stored for it")
    } else {
        format!("role {role} does not exist")
    };
    Measure { kind: Kind::Grant, own: false, finding, statement }
}

/// Whether the role exists.
///
/// # Errors
/// It has rights that no plugin may have.
async fn exists(
    connection: &mut PgConnection,
    database: &Database,
    role: &str,
) -> Result<bool, ProvisionError> {
    let is_privileged: Option<bool> = sqlx::query_scalar(
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
           FROM pg_roles WHERE rolname = $1",
    )
    .bind(role)
    .fetch_optional(&mut *connection)
    .await?;
    match is_privileged {
        Some(true) if role == database.owner_role() => Err(ProvisionError::OwnerTooStrong {
            role: role.to_owned(),
            statement: format!(
                "ALTER ROLE {} NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS",
                quote_ident(role)
            ),
        }),
        Some(true) => Err(ProvisionError::RoleTooStrong(role.to_owned())),
        found => Ok(found.is_some()),
    }
}

/// Names the password by where it is stored, so that the statement can be shown, and the server does not log
/// the password. An error is raised anew, since its context has the statement with the password.
fn statement(role: &str, exists: bool) -> String {
    let change = match exists {
        true => "ALTER ROLE %I LOGIN VALID UNTIL ''infinity'' PASSWORD %L",
        false => "CREATE ROLE %I LOGIN NOINHERIT NOCREATEDB NOCREATEROLE PASSWORD %L",
    };
    let role = quote_literal(role);
    format!(
        "DO $saga$ BEGIN EXECUTE (SELECT format('{change}', role, password) FROM saga.role_password WHERE \
         role = {role}); EXCEPTION WHEN query_canceled OR OTHERS THEN RAISE EXCEPTION USING ERRCODE = \
         SQLSTATE, MESSAGE = SQLERRM; END $saga$"
    )
}

/// Checks that the role can log in. Whether it may connect to the database is one of its rights, which are
/// checked elsewhere.
async fn log_in(database: &Database, role: &str, password: &str) -> Result<(), sqlx::Error> {
    let options = database.server.options().database(&database.name).username(role).password(password);
    match options.connect().await {
        Ok(connection) => connection.close().await,
        Err(error) if sqlstate(&error).as_deref() == Some("42501") => Ok(()),
        Err(error) => Err(error),
    }
}

/// The stored password of a role, which is stored at the first call.
async fn password(
    connection: &mut PgConnection,
    database: &Database,
    role: &str,
    exists: bool,
) -> Result<String, ProvisionError> {
    let stored =
        stored_password(connection, role).await.map_err(|error| match sqlstate(&error).as_deref() {
            Some("42P01" | "3F000") => {
                let (owner, name) = ("host".to_owned(), ROLES_MIGRATION.to_owned());
                ProvisionError::MigrationMissing { owner, name }
            }
            _ => error.into(),
        })?;
    if let Some(password) = stored {
        return Ok(password);
    }
    let derived = if exists { derived_password(database, role).await } else { None };
    // The server makes a new password: its log can have the parameters of a statement.
    sqlx::query(
        "INSERT INTO saga.role_password (role, password)
         VALUES ($1, coalesce($2, replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')))
         ON CONFLICT DO NOTHING",
    )
    .bind(role)
    .bind(derived)
    .execute(&mut *connection)
    .await?;
    Ok(stored_password(connection, role).await?.unwrap_or_default())
}

pub(super) async fn stored_password(
    connection: &mut PgConnection,
    role: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT password FROM saga.role_password WHERE role = $1")
        .bind(role)
        .fetch_optional(connection)
        .await
}

/// The password of a role that an earlier version of the host has created, if the role still has it. A host
/// of that version may be running.
async fn derived_password(database: &Database, role: &str) -> Option<String> {
    for password in database.server.derived_passwords(role) {
        if log_in(database, role, &password).await.is_ok() {
            return Some(password);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{IDENTIFIER_BYTES_MAX, statement};
    use crate::store::Server;

    #[tokio::test]
    async fn each_database_has_an_owner_of_its_own() {
        let server = Server::new("postgres://u@h/db").unwrap();
        let owner = |name: &str| server.database(name).owner_role();
        assert_eq!(owner("cmd-order"), "saga_owner_cmd-order");
        let (long, longer) = (owner(&"a".repeat(60)), owner(&"a".repeat(61)));
        assert!(long.len() <= IDENTIFIER_BYTES_MAX && long != longer, "{long} {longer}");
    }

    #[test]
    fn a_statement_does_not_show_the_password() {
        let create = statement("plugin_a", false);
        assert!(create.contains("CREATE ROLE %I LOGIN") && create.contains("saga.role_password"), "{create}");
        assert!(statement("plugin_a", true).contains("ALTER ROLE %I LOGIN VALID UNTIL"));
    }
}
