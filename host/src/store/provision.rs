//! What a plugin needs before its first unit: its database, the `saga` schema, its own tables,
//! and its restricted role.

use sqlx::{AssertSqlSafe, PgConnection, postgres::PgDatabaseError};

use super::{
    Database, Migrations, Server,
    migrate::{self, LOCK, host_migrations},
    quote_ident, quote_literal, roll_partitions,
};
use crate::config::MigrationsMode;

/// The role that a plugin's units run under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PluginRole {
    /// The plugin.
    pub plugin: String,
    /// The role's name in Postgres.
    pub name: String,
}

/// Why a database cannot serve a plugin.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The account may not create what is missing.
    #[error("{what} does not exist and this account may not create it; run as a superuser: {mend}")]
    Missing {
        /// What is missing.
        what: String,
        /// The statement that creates it.
        mend: String,
    },
    /// `migrations = "check"` and one is not there.
    #[error(
        "migration {name} of {owner} is not applied; start once with SAGA_HOST_MIGRATIONS=apply, or apply it by hand"
    )]
    MigrationMissing {
        /// `host` or the plugin.
        owner: String,
        /// File name.
        name: String,
    },
    /// An applied migration has another text now.
    #[error(
        "migration {name} of {owner} was changed after it was applied; put the change into a new migration"
    )]
    MigrationChanged {
        /// `host` or the plugin.
        owner: String,
        /// File name.
        name: String,
    },
    /// Postgres refused it.
    #[error("migration {name} of {owner} failed: {source}")]
    MigrationFailed {
        /// `host` or the plugin.
        owner: String,
        /// File name.
        name: String,
        /// What Postgres said.
        source: sqlx::Error,
    },
    /// It would break an earlier version that sagas in flight stay with.
    #[error(
        "migration {name} of {owner} does more than add ({statement}), and {sagas} sagas in flight stay with earlier \
         versions. Deploy it when they have ended (saga-host plugins tells how many are left), or set in_flight = \
         \"move\" under [rollout] in {owner}.toml"
    )]
    MigrationContracts {
        /// The plugin.
        owner: String,
        /// File name.
        name: String,
        /// The beginning of the first statement that does.
        statement: String,
        /// Sagas in flight under other versions.
        sagas: i64,
    },
    /// The role may do more than a plugin's statements should.
    #[error(
        "role {0} is a superuser or may create roles or databases; name a role of the plugin's own in [database] role"
    )]
    RoleTooStrong(String),
    /// Anything else: the server is away, or refuses the account.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

impl Server {
    /// Puts in place what `role` needs in `database`: all of it when missing, none of it again.
    ///
    /// # Errors
    /// What is missing and cannot be made, or the migration that does not fit.
    pub async fn provision(
        &self,
        database: &Database,
        role: &PluginRole,
        migrations: &Migrations<'_>,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        self.create_database(&database.name).await?;
        let mut connection = database.admin.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *connection).await?;
        let mut done = self.provision_locked(&mut connection, database, role, migrations, mode).await;
        if done.is_ok() {
            done = roll_partitions(&database.admin).await.map_err(ProvisionError::from);
        }
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&mut *connection).await?;
        done
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
            sqlx::raw_sql(BOOKKEEPING).execute(&mut *connection).await?;
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
        shut_session_functions(connection, mode).await.map_err(ProvisionError::from)
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
        created(&mut connection, &format!("database {name}"), &statement).await
    }

    async fn create_role(
        &self,
        connection: &mut PgConnection,
        role: &PluginRole,
    ) -> Result<(), ProvisionError> {
        let strong: Option<bool> = sqlx::query_scalar(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
               FROM pg_roles WHERE rolname = $1",
        )
        .bind(&role.name)
        .fetch_optional(&mut *connection)
        .await?;
        match strong {
            Some(true) => return Err(ProvisionError::RoleTooStrong(role.name.clone())),
            Some(false) => return Ok(()),
            None => {}
        }
        let mut statement =
            format!("CREATE ROLE {} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE", quote_ident(&role.name));
        if let Some(password) = self.role_password(&role.name) {
            statement.push_str(&format!(" PASSWORD {}", quote_literal(&password)));
        }
        created(connection, &format!("role {}", role.name), &statement).await
    }
}

/// Runs a CREATE: another host may be a moment ahead, and the account may lack the right.
async fn created(connection: &mut PgConnection, what: &str, statement: &str) -> Result<(), ProvisionError> {
    let Err(error) = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await else {
        return Ok(());
    };
    let code = error.as_database_error().map(|e| e.downcast_ref::<PgDatabaseError>().code().to_owned());
    match code.as_deref() {
        Some("42P04" | "42710" | "23505") => Ok(()),
        Some("42501") => {
            Err(ProvisionError::Missing { what: what.to_owned(), mend: without_password(statement) })
        }
        _ => Err(error.into()),
    }
}

fn without_password(statement: &str) -> String {
    statement.split(" PASSWORD ").next().unwrap_or_default().to_owned()
}

const BOOKKEEPING: &str = "
    CREATE SCHEMA IF NOT EXISTS saga;
    REVOKE ALL ON SCHEMA saga FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS saga.migration (
        owner      text        NOT NULL,
        name       text        NOT NULL,
        sha256     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (owner, name)
    )";

/// The plugin's role may read and write the business tables and call the functions of a unit;
/// it may create nothing, not even temporary tables that would hide others.
fn grants(database: &str, role: &str) -> String {
    let (database, role) = (quote_ident(database), quote_ident(role));
    format!(
        "REVOKE TEMPORARY, CREATE ON DATABASE {database} FROM PUBLIC;
         REVOKE CREATE ON SCHEMA public FROM PUBLIC;
         GRANT CONNECT ON DATABASE {database} TO {role};
         GRANT USAGE ON SCHEMA public, saga TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
         GRANT EXECUTE ON FUNCTION
             saga.open, saga.lock_sagas, saga.lock_parked_and_timers, saga.stored_answers, saga.record_foreign_ids,
             saga.flush TO {role}"
    )
}

/// Functions of Postgres by which a statement could lift its own limits, outlive its transaction,
/// end a connection (which would pass for an outage) or run text as a statement.
const SESSION_FUNCTIONS: &str = "
    SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'pg_catalog' AND has_function_privilege('public', p.oid, 'EXECUTE')
       AND (p.proname IN ('set_config', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
                          'pg_logical_emit_message')
            OR p.proname LIKE 'pg\\_advisory%' OR p.proname LIKE 'pg\\_try\\_advisory%'
            OR p.proname LIKE 'lo\\_%' OR p.proname LIKE 'query\\_to\\_xml%')";

/// Takes the session functions from PUBLIC. Only a superuser may, and only when the schema may be
/// changed; else it is said, at every start.
async fn shut_session_functions(
    connection: &mut PgConnection,
    mode: MigrationsMode,
) -> Result<(), sqlx::Error> {
    let open: Vec<String> = sqlx::query_scalar(SESSION_FUNCTIONS).fetch_all(&mut *connection).await?;
    if open.is_empty() {
        return Ok(());
    }
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *connection)
        .await?;
    if mode == MigrationsMode::Apply && superuser {
        let statement = format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", open.join(", "));
        return sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop);
    }
    tracing::warn!(
        functions = open.len(),
        "plugins can call session functions such as set_config; to close them, let a superuser REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC",
        open.join(", ")
    );
    Ok(())
}
