//! Why a plugin cannot be provisioned, and what the operator can do about it.

use super::{Database, PluginRole, rights::Measure};

/// Why a plugin cannot be provisioned.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The database is missing, and the account may not create it.
    #[error(
        "database {database} does not exist and this account may not create it; as an administrator, run: \
         {statement}"
    )]
    DatabaseMissing {
        /// The database.
        database: String,
        /// The statement that creates it.
        statement: String,
    },
    /// Roles or rights are missing, or a guest could misuse some, and the account may not change that.
    #[error(
        "database {database} is not prepared for {plugin}: {}. As an administrator, run in database \
         {database}: {}",
        .findings.join("; "), .statements.join("; ")
    )]
    NotPrepared {
        /// The database.
        database: String,
        /// The plugin.
        plugin: String,
        /// What is wrong.
        findings: Vec<String>,
        /// The SQL that sets it right, in this order.
        statements: Vec<String>,
    },
    /// A role cannot log in although its password was just set.
    #[error(
        "role {role} cannot log in: {source}; let it log in with a password (pg_hba.conf), its password is \
         in saga.role_password"
    )]
    CannotLogIn {
        /// The role.
        role: String,
        /// The error of Postgres.
        source: sqlx::Error,
    },
    /// The mode is `check`, and a migration is not applied.
    #[error(
        "migration {name} of {owner} is not applied; start once with SAGA_HOST_MIGRATIONS=apply, or apply it \
         by hand"
    )]
    MigrationMissing {
        /// `host` or the plugin.
        owner: String,
        /// File name of the migration.
        name: String,
    },
    /// The text of an applied migration has changed.
    #[error(
        "migration {name} of {owner} was changed after it was applied; restore it and put the change into a \
         new migration"
    )]
    MigrationChanged {
        /// `host` or the plugin.
        owner: String,
        /// File name of the migration.
        name: String,
    },
    /// Postgres refuses a migration.
    #[error("migration {name} of {owner} failed: {source}")]
    MigrationFailed {
        /// `host` or the plugin.
        owner: String,
        /// File name of the migration.
        name: String,
        /// The error of Postgres.
        source: sqlx::Error,
    },
    /// A plugin's migration does what its role may not do.
    #[error(
        "migration {name} of {owner} is refused: {source}. The migrations of plugins run as role {role}, \
         which may create and change its own tables, in schema public or schemas of its own, but nothing \
         else{advice}"
    )]
    MigrationDenied {
        /// The plugin.
        owner: String,
        /// File name of the migration.
        name: Box<str>,
        /// The owner's role.
        role: Box<str>,
        /// The error of Postgres.
        source: sqlx::Error,
        /// What else may be the cause, and what to do about it; may be empty.
        advice: Box<str>,
    },
    /// A migration cannot be applied at this moment. The host tries again.
    #[error("migration {name} of {owner} cannot be applied now: {source}{advice}")]
    MigrationPostponed {
        /// `host` or the plugin.
        owner: String,
        /// File name of the migration.
        name: String,
        /// The error of Postgres.
        source: sqlx::Error,
        /// What to do about it; may be empty.
        advice: &'static str,
    },
    /// A migration would break an earlier version that still has sagas in flight.
    #[error(
        "migration {name} of {owner} does more than add ({statement}), and {sagas} sagas in flight stay with \
         earlier versions. Deploy it when they have ended (saga-host plugins shows how many are left), or \
         set in_flight = \"move\" under [rollout] in {owner}.toml"
    )]
    MigrationContracts {
        /// The plugin.
        owner: String,
        /// File name of the migration.
        name: String,
        /// The beginning of the first statement that does more than add.
        statement: String,
        /// Sagas in flight under other versions.
        sagas: i64,
    },
    /// The role has rights that no plugin may have.
    #[error(
        "role {0} is a superuser, may create roles or databases, may replicate or bypasses row security; set \
         [database] role to a role of the plugin's own"
    )]
    RoleTooStrong(String),
    /// The owner's role has rights that it may not have.
    #[error(
        "role {role} is a superuser, may create roles or databases, may replicate or bypasses row security; \
         as an administrator, run: {statement}"
    )]
    OwnerTooStrong {
        /// The role.
        role: String,
        /// The statement that takes these rights from it.
        statement: String,
    },
    /// Another error: the server is unreachable, or refuses the account.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}

impl ProvisionError {
    /// An error that asks an administrator to carry out these measures.
    pub(super) fn unless_prepared(
        database: &Database,
        role: &PluginRole,
        measures: Vec<Measure>,
    ) -> Result<(), Self> {
        if measures.is_empty() {
            return Ok(());
        }
        let (findings, statements) =
            measures.into_iter().map(|measure| (measure.finding, measure.statement)).unzip();
        let (database, plugin) = (database.name.clone(), role.plugin.clone());
        Err(Self::NotPrepared { database, plugin, findings, statements })
    }
}
