//! Creates what a plugin needs before its first unit: its database, the `saga` schema, its own tables, and
//! its restricted role.

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgDatabaseError};

use super::{
    Database, Migrations, ProvisionError, Server, confirm_identity,
    migrate::{self, PROVISION_LOCK, host_migrations},
    quote_ident, quote_literal,
    retention::has_partitions,
    roll_partitions,
    session_functions::revoke_session_functions,
};
use crate::{config::MigrationsMode, model::migration::Migration};

/// The Postgres role of a plugin's units.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PluginRole {
    /// The plugin's name.
    pub plugin: String,
    /// The role's name in Postgres.
    pub name: String,
}

impl Server {
    /// Creates what is missing of `database`, its schemas and `role`. Existing parts stay as they are.
    ///
    /// # Errors
    /// A part is missing and cannot be created, or a migration is refused or fails.
    pub async fn provision(
        &self,
        database: &Database,
        role: &PluginRole,
        migrations: &Migrations<'_>,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        self.create_database(&database.name).await?;
        let mut connection = database.admin.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(PROVISION_LOCK).execute(&mut *connection).await?;
        let mut done = self.provision_locked(&mut connection, database, role, migrations, mode).await;
        if done.is_ok() {
            done = self.partition(database).await.map_err(ProvisionError::from);
        }
        if done.is_ok() {
            let confirmed = confirm_identity(&database.admin, &database.name).await;
            done = confirmed.map(drop).map_err(ProvisionError::from);
        }
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(PROVISION_LOCK).execute(&mut *connection).await?;
        done
    }

    /// Creates and drops the partitions of tables by day. A plugin can start while a table is locked, as long
    /// as its partitions are there: the leader tries again in the background.
    async fn partition(&self, database: &Database) -> Result<(), sqlx::Error> {
        let Err(error) = roll_partitions(&database.admin).await else { return Ok(()) };
        if !has_partitions(&database.admin).await? {
            return Err(error);
        }
        tracing::warn!(
            database = database.name,
            reason = %error,
            "cannot create or drop all table partitions now, for example because of a dump; the host tries \
             again in the background"
        );
        Ok(())
    }

    async fn provision_locked(
        &self,
        connection: &mut PgConnection,
        database: &Database,
        role: &PluginRole,
        migrations: &Migrations<'_>,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        if mode == MigrationsMode::Apply {
            sqlx::raw_sql(MIGRATION_TABLE).execute(&mut *connection).await?;
        }
        migrate::migrate(
            connection,
            "host",
            &Migrations { all: &host_migrations(), pinning_version: None },
            mode,
        )
        .await?;
        self.create_role(connection, role).await?;
        migrate::migrate(connection, &role.plugin, migrations, mode).await?;
        if mode == MigrationsMode::Apply {
            sqlx::raw_sql(AssertSqlSafe(grants(&database.name, &role.name)))
                .execute(&mut *connection)
                .await?;
        }
        revoke_session_functions(connection, mode).await.map_err(ProvisionError::from)
    }

    async fn create_database(&self, name: &str) -> Result<(), ProvisionError> {
        let mut connection = sqlx::ConnectOptions::connect(self.options()).await?;
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if exists {
            return Ok(());
        }
        let statement = format!("CREATE DATABASE {}", quote_ident(name));
        create(&mut connection, &format!("database {name}"), &statement).await
    }

    async fn create_role(
        &self,
        connection: &mut PgConnection,
        role: &PluginRole,
    ) -> Result<(), ProvisionError> {
        let is_privileged: Option<bool> = sqlx::query_scalar(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
               FROM pg_roles WHERE rolname = $1",
        )
        .bind(&role.name)
        .fetch_optional(&mut *connection)
        .await?;
        match is_privileged {
            Some(true) => return Err(ProvisionError::RoleTooStrong(role.name.clone())),
            Some(false) => return Ok(()),
            None => {}
        }
        let mut statement =
            format!("CREATE ROLE {} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE", quote_ident(&role.name));
        if let Some(password) = self.role_password(&role.name) {
            statement.push_str(&format!(" PASSWORD {}", quote_literal(&password)));
        }
        create(connection, &format!("role {}", role.name), &statement).await
    }
}

impl Database {
    /// The migrations of the host and of `plugin` that this database lacks, by file name and owner.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub async fn missing_migrations(
        &self,
        plugin: &str,
        migrations: &[Migration],
    ) -> Result<Vec<String>, sqlx::Error> {
        let missing = async {
            let mut connection = self.admin.acquire().await?;
            migrate::missing(&mut connection, plugin, migrations).await
        };
        match missing.await {
            Err(error) if error.as_database_error().is_some_and(|e| e.code().as_deref() == Some("3D000")) => {
                Ok(migrate::all(plugin, migrations))
            }
            missing => missing,
        }
    }
}

/// Runs a CREATE. Another host may create the same at this moment, which is no error.
async fn create(connection: &mut PgConnection, what: &str, statement: &str) -> Result<(), ProvisionError> {
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await else {
        return Ok(());
    };
    let code = error.as_database_error().map(|e| e.downcast_ref::<PgDatabaseError>().code().to_owned());
    match code.as_deref() {
        Some("42P04" | "42710" | "23505") => Ok(()),
        Some("42501") => {
            Err(ProvisionError::Missing { what: what.to_owned(), remedy: without_password(statement) })
        }
        _ => Err(error.into()),
    }
}

fn without_password(statement: &str) -> String {
    statement.split(" PASSWORD ").next().unwrap_or_default().to_owned()
}

const MIGRATION_TABLE: &str = "
    CREATE SCHEMA IF NOT EXISTS saga;
    REVOKE ALL ON SCHEMA saga FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS saga.migration (
        owner      text        NOT NULL,
        name       text        NOT NULL,
        sha256     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (owner, name)
    )";

/// The plugin's role can read and write the business tables and call the functions of a unit. It can create
/// nothing, not even temporary tables, which would hide others.
fn grants(database: &str, role: &str) -> String {
    let (database, role) = (quote_ident(database), quote_ident(role));
    let role_literal = quote_literal(&role);
    format!(
        "REVOKE TEMPORARY, CREATE ON DATABASE {database} FROM PUBLIC;
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT CONNECT ON DATABASE {database} TO {role};
         GRANT USAGE ON SCHEMA public, saga TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
         DO $$
         DECLARE v_function regprocedure;
         BEGIN
             -- Each by its parameters: while two builds run side by side, a name can have two.
             FOR v_function IN
                 SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'saga'::regnamespace AND p.proname IN
                     ('open', 'lock_sagas', 'lock_parked_and_timers', 'stored_answers',
                      'record_foreign_ids', 'flush')
             LOOP
                 EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', v_function, {role_literal});
             END LOOP;
         END $$"
    )
}
