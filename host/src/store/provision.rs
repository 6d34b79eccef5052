//! Creates what a plugin needs before its first unit: its database, the `saga` schema, its own tables, and
//! its roles with their rights. What the host's account may not do, an administrator has to: the error is the
//! SQL to run.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    Database, Migrations, PluginRole, ProvisionError, Server, confirm_identity,
    migrate::{self, PROVISION_LOCK, RunAs, host_migrations},
    ownership, quote_ident,
    retention::has_partitions,
    rights::{self, Kind, Measure},
    roles::{self, sqlstate},
    roll_partitions,
};
use crate::{config::MigrationsMode, model::migration::Migration};

impl Server {
    /// Creates what is missing of `database`, its schemas and `role`. Existing parts stay as they are.
    ///
    /// # Errors
    /// A part is missing and cannot be created, a guest could misuse a right, or a migration is refused or
    /// fails.
    ///
    /// # Cancellation
    /// Closes the connection, which releases its lock.
    pub async fn provision(
        &self,
        database: &Database,
        role: &PluginRole,
        migrations: &Migrations<'_>,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        self.create_database(&database.name).await?;
        self.check_account(database, role, mode).await?;
        let mut connection = database.admin.acquire().await?.detach();
        lock(&mut connection).await?;
        let mut done = self.provision_locked(&mut connection, database, role, migrations, mode).await;
        if done.is_ok() {
            done = self.partition(database).await.map_err(ProvisionError::from);
        }
        if done.is_ok() {
            let confirmed = confirm_identity(&database.admin, &database.name).await;
            done = confirmed.map(drop).map_err(ProvisionError::from);
        }
        // When closing fails, the connection is dropped, and the server notices that too.
        let _closed = sqlx::Connection::close(connection).await;
        done
    }

    /// Checks that the host's account can work in a database that exists.
    ///
    /// # Errors
    /// It lacks rights, or Postgres is unreachable.
    pub async fn check_account(
        &self,
        database: &Database,
        role: &PluginRole,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        let mut connection = database.admin.acquire().await?;
        let measures = ownership::measures_for_account(&mut connection, mode).await?;
        ProvisionError::unless_prepared(database, role, measures)
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
        if mode == MigrationsMode::Apply && !migrate::has_table(connection).await? {
            sqlx::raw_sql(MIGRATION_TABLE).execute(&mut *connection).await?;
        }
        let of_host = Migrations { all: &host_migrations(), pinning_version: None };
        migrate::migrate(connection, "host", &of_host, mode, RunAs::Account).await?;
        self.provision_roles(connection, database, role, mode).await?;
        let untransferred = match mode {
            MigrationsMode::Apply => ownership::give_tables_to_owner(connection, database).await?,
            MigrationsMode::Check | MigrationsMode::Off => ownership::Untransferred::default(),
        };
        migrate::migrate(connection, &role.plugin, migrations, mode, RunAs::Owner(database))
            .await
            .map_err(|error| untransferred.explain(error, database))?;
        if mode != MigrationsMode::Apply {
            return Ok(());
        }
        // The migrations may have created schemas and tables.
        let measures = rights::measures(connection, database, role, false).await?;
        let left = rights::carry_out(connection, measures, &[Kind::Grant, Kind::Revoke]).await?;
        let missing = left.into_iter().filter(|measure| measure.kind == Kind::Grant).collect();
        ProvisionError::unless_prepared(database, role, missing)
    }

    /// Creates the roles, gives them what they need and takes from them what they must not have.
    async fn provision_roles(
        &self,
        connection: &mut PgConnection,
        database: &Database,
        role: &PluginRole,
        mode: MigrationsMode,
    ) -> Result<(), ProvisionError> {
        let migrates = mode == MigrationsMode::Apply;
        let mut left = roles::ensure(connection, database, &role.name).await?;
        if migrates {
            left.extend(roles::ensure(connection, database, &database.owner_role()).await?);
        }
        let measures = rights::measures(connection, database, role, migrates).await?;
        let kinds: &[Kind] = match mode {
            MigrationsMode::Apply => &[Kind::Grant, Kind::Revoke],
            MigrationsMode::Check => &[Kind::Grant],
            MigrationsMode::Off => &[],
        };
        left.extend(rights::carry_out(connection, measures, kinds).await?);
        left.retain(|measure| self.prevents_start(database, mode, measure));
        ProvisionError::unless_prepared(database, role, left)
    }

    /// Whether the plugin cannot start without this measure. In development, what a guest could misuse is
    /// only logged.
    fn prevents_start(&self, database: &Database, mode: MigrationsMode, measure: &Measure) -> bool {
        let Measure { kind, finding, statement, .. } = measure;
        match kind {
            Kind::Grant => mode != MigrationsMode::Off,
            Kind::Revoke | Kind::Administer if self.development => {
                tracing::warn!(database = database.name, statement, "unsafe: {finding}");
                false
            }
            Kind::Revoke | Kind::Administer => true,
        }
    }

    async fn create_database(&self, name: &str) -> Result<(), ProvisionError> {
        let mut connection = sqlx::ConnectOptions::connect(&self.options()).await?;
        let (exists, account): (bool, String) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1), quote_ident(current_user)",
        )
        .bind(name)
        .fetch_one(&mut connection)
        .await?;
        if exists {
            return Ok(());
        }
        let statement = format!("CREATE DATABASE {}", quote_ident(name));
        let created = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await;
        let Err(error) = created else { return Ok(()) };
        match sqlstate(&error).as_deref() {
            // Another host creates the same at this moment.
            Some("42P04" | "23505") => Ok(()),
            Some("42501") => Err(ProvisionError::DatabaseMissing {
                database: name.to_owned(),
                statement: format!("{statement} OWNER {account}"),
            }),
            _ => Err(error.into()),
        }
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
            Err(error) if sqlstate(&error).as_deref() == Some("3D000") => {
                Ok(migrate::all(plugin, migrations))
            }
            missing => missing,
        }
    }
}

/// Serializes the hosts that provision the same database, until the connection closes.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(PROVISION_LOCK).execute(connection).await.map(drop)
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
