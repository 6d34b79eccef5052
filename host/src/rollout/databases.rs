//! The databases of the plugins: one pool each, provisioned once.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::deploy::{DeployError, environment};
use crate::{
    config::MigrationsMode,
    model::{
        migration::Migration,
        policy::{InFlight, Policy},
    },
    plugin::version::Version,
    store::{Database, Migrations, PluginRole, ProvisionError, Server},
};

/// How soon new connections use a password that has changed.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(2);

/// What a version needs of its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Provision {
    database: String,
    role: PluginRole,
    migrations: Vec<Migration>,
    mode: MigrationsMode,
}

/// The databases on one server.
#[derive(Debug)]
pub(crate) struct Databases {
    server: Server,
    migrations: MigrationsMode,
    by_name: Mutex<HashMap<String, Database>>,
    /// What was provisioned; the host does not check it again.
    provisioned: Mutex<HashSet<Provision>>,
}

impl Databases {
    /// `migrations` applies where a policy names no mode of its own.
    pub(crate) fn new(server: Server, migrations: MigrationsMode) -> Self {
        Self { server, migrations, by_name: Mutex::default(), provisioned: Mutex::default() }
    }

    /// The mode that applies where a policy names none of its own.
    pub(super) fn migrations(&self) -> MigrationsMode {
        self.migrations
    }

    /// The database of this name; the same pool each time.
    pub(super) fn get(&self, name: &str) -> Database {
        self.by_name.lock().entry(name.to_owned()).or_insert_with(|| self.server.database(name)).clone()
    }

    /// The role that a version's units run under.
    pub(super) fn role(version: &Version) -> PluginRole {
        Self::role_of(&version.policy)
    }

    fn role_of(policy: &Policy) -> PluginRole {
        PluginRole { plugin: policy.name.to_string(), name: policy.database.role.clone() }
    }

    /// What the host may do about migrations.
    fn mode_of(&self, policy: &Policy) -> MigrationsMode {
        policy.database.migrations.unwrap_or(self.migrations)
    }

    /// Lets new connections use the present password of the host's account, until `stop`.
    pub(crate) async fn refresh_credentials(&self, stop: CancellationToken) {
        let mut clock = tokio::time::interval(CREDENTIALS_INTERVAL);
        while stop.run_until_cancelled(clock.tick()).await.is_some() {
            let databases: Vec<Database> = self.by_name.lock().values().cloned().collect();
            databases.iter().for_each(Database::refresh_credentials);
        }
    }

    /// Why a database cannot be read: where the account lacks rights, what an administrator has to do.
    pub(super) async fn refusal(&self, policy: &Policy, error: anyhow::Error) -> DeployError {
        let (role, mode) = (Self::role_of(policy), self.mode_of(policy));
        let database = self.get(&policy.database.name);
        match self.server.check_account(&database, &role, mode).await {
            Err(refusal @ ProvisionError::NotPrepared { .. }) => refusal.into(),
            _ => environment(error),
        }
    }

    /// Creates or checks the database, the role and the tables of a version.
    ///
    /// # Errors
    /// Something is missing and may not be created, or a migration does not fit.
    pub(super) async fn provision(&self, version: &Version) -> Result<(), ProvisionError> {
        let policy = &version.policy;
        let (role, mode) = (Self::role_of(policy), self.mode_of(policy));
        let database = self.get(&policy.database.name);
        let wanted = Provision {
            database: database.name.clone(),
            role: role.clone(),
            migrations: version.manifest.migrations.clone(),
            mode,
        };
        let is_provisioned = self.provisioned.lock().contains(&wanted);
        if !is_provisioned {
            let pins = policy.rollout.in_flight == InFlight::Pin;
            let migrations = Migrations {
                all: &version.manifest.migrations,
                pinning_version: pins.then_some(version.digest.as_str()),
            };
            self.server.provision(&database, &role, &migrations, mode).await?;
        }
        database.limit_role(&role, policy.limits.temp_files_mib_max, mode).await?;
        self.provisioned.lock().insert(wanted);
        Ok(())
    }
}
