//! Why a plugin cannot be provisioned, and what the operator can do about it.

/// Why a plugin cannot be provisioned.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// A part is missing, and the account may not create it.
    #[error("{what} does not exist and this account may not create it; run as a superuser: {remedy}")]
    Missing {
        /// The missing part.
        what: String,
        /// The statement that creates it.
        remedy: String,
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
        "role {0} is a superuser or may create roles or databases; set [database] role to a role of the \
         plugin's own"
    )]
    RoleTooStrong(String),
    /// Another error: the server is unreachable, or refuses the account.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
}
