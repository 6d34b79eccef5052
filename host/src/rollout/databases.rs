//! The databases of the plugins: one pool each, provisioned once.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use crate::{
    config::MigrationsMode,
    model::{migration::Migration, policy::InFlight},
    plugin::version::Version,
    store::{Database, Migrations, PluginRole, ProvisionError, Server},
};

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
        PluginRole { plugin: version.plugin.clone(), name: version.policy.database.role.clone() }
    }

    /// Creates or checks the database, the role and the tables of a version.
    ///
    /// # Errors
    /// Something is missing and may not be created, or a migration does not fit.
    pub(super) async fn provision(&self, version: &Version) -> Result<(), ProvisionError> {
        let policy = &version.policy;
        let mode = policy.database.migrations.unwrap_or(self.migrations);
        let role = Self::role(version);
        let database = self.get(&policy.database.name);
        let wanted = Provision {
            database: database.name.clone(),
            role: role.clone(),
            migrations: version.manifest.migrations.clone(),
            mode,
        };
        let temp_files_mib_max = policy.limits.temp_files_mib_max;
        if self.provisioned.lock().contains(&wanted) {
            return database.limit_role(&role, temp_files_mib_max, mode).await;
        }
        let pins = policy.rollout.in_flight == InFlight::Pin;
        let migrations = Migrations {
            all: &version.manifest.migrations,
            pinning_version: pins.then_some(version.digest.as_str()),
        };
        self.server.provision(&database, &role, &migrations, mode).await?;
        database.limit_role(&role, temp_files_mib_max, mode).await?;
        self.provisioned.lock().insert(wanted);
        Ok(())
    }
}
