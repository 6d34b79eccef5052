//! What the parts of a host share: its settings, its plugins, and the way to change them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::{
    service::Service,
    tasks::{Stops, Tasks},
};
use crate::{
    config::{Config, MigrationsMode},
    ingress::http::router::RouteTable,
    kafka::{Brokers, Topics},
    model::migration::Migration,
    plugin::engine::Engine,
    relay::Relay,
    store::{Database, PluginRole, Server},
    versions::rollback_guard::Trips,
};

/// The last rejection of a plugin's component.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Of the component.
    pub digest: String,
    /// What is wrong with it, with the mend.
    pub reason: String,
    /// When.
    pub at: SystemTime,
    /// Where the plugin does not run here, it should: the environment was at fault, and it is tried again, or
    /// what is wrong is with the version that is active on other hosts.
    pub missed: bool,
}

/// What a version needs of its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Provisioned {
    pub(crate) database: String,
    pub(crate) role: PluginRole,
    pub(crate) migrations: Vec<Migration>,
    pub(crate) mode: MigrationsMode,
}

/// What all parts of a host see.
#[derive(Debug)]
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// The plugins that run.
    pub services: RwLock<Vec<Arc<Service>>>,
    /// By plugin.
    pub rejected: RwLock<BTreeMap<String, Rejected>>,
    /// Compiles components.
    pub engine: Engine,
    /// The Postgres server.
    pub server: Server,
    /// Until every plugin of the folder has been looked at.
    pub starting: AtomicBool,
    /// Names this host in the databases.
    pub owner: String,
    pub(crate) brokers: Brokers,
    pub(crate) topics: Arc<Topics>,
    pub(crate) routes: Arc<ArcSwap<RouteTable>>,
    /// By name.
    databases: Mutex<HashMap<String, Database>>,
    /// What this host has put in place; nothing of it is looked at again.
    pub(crate) provisioned: Mutex<HashSet<Provisioned>>,
    pub(crate) relays: Mutex<HashMap<String, Arc<Relay>>>,
    pub(crate) deploying: tokio::sync::Mutex<()>,
    pub(crate) trips: Trips,
    pub(crate) stops: Stops,
    pub(crate) tasks: Tasks,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        engine: Engine,
        server: Server,
        brokers: Brokers,
        topics: Arc<Topics>,
        trips: Trips,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            services: RwLock::default(),
            rejected: RwLock::default(),
            engine,
            server,
            starting: AtomicBool::new(true),
            owner: uuid::Uuid::new_v4().to_string(),
            brokers,
            topics,
            routes: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
            databases: Mutex::default(),
            provisioned: Mutex::default(),
            relays: Mutex::default(),
            deploying: tokio::sync::Mutex::default(),
            trips,
            stops: Stops::default(),
            tasks: Tasks::default(),
        })
    }

    /// The plugins that run.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.read().clone()
    }

    /// One of them.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.read().iter().find(|service| service.name == name).cloned()
    }

    /// A database by its name, the same one each time.
    pub(crate) fn database(&self, name: &str) -> Database {
        self.databases.lock().entry(name.to_owned()).or_insert_with(|| self.server.database(name)).clone()
    }

    /// Parts that stand still, with the reason: a partition that was stopped, brokers that do not answer.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        let mut troubles = Vec::new();
        for service in self.services() {
            let behind = service.behind.load().as_deref().cloned();
            let reasons =
                service.consumer.stopped().into_iter().chain(service.consumer.trouble()).chain(behind);
            troubles.extend(reasons.map(|reason| (service.name.clone(), reason)));
        }
        let rejected = self.rejected.read();
        let missed =
            rejected.iter().filter(|(name, rejected)| rejected.missed && self.service(name).is_none());
        troubles.extend(missed.map(|(name, rejected)| (name.clone(), rejected.reason.clone())));
        troubles
    }

    /// True until every plugin of the folder has been looked at.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }
}
