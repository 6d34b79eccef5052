//! The plugins that run on this host, and why others do not.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::service::Service;
use crate::{
    ingress::http::{
        not_running::{Cause, NotRunning},
        route_table::RouteTable,
        router::{Endpoint, RouteError},
    },
    model::{manifest::Route, plugin_name::PluginName},
    supervise::Supervisor,
};

/// The last rejection of a plugin's component.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Digest of the component.
    pub digest: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
    /// When it was rejected.
    pub at: SystemTime,
}

/// A plugin that should run here and does not.
#[derive(Clone, Debug)]
pub struct Awaited {
    /// Digest of the component that was to start; empty when there is none.
    pub digest: String,
    /// Why it does not run, and what to do.
    pub reason: String,
    /// Since when.
    pub at: SystemTime,
    /// What its routes are answered with.
    pub not_running: NotRunning,
}

/// The plugins of this host.
#[derive(Debug)]
pub struct Services {
    running: RwLock<Vec<Arc<Service>>>,
    awaited: RwLock<BTreeMap<PluginName, Awaited>>,
    rejected: RwLock<BTreeMap<PluginName, Rejected>>,
    routes: Arc<ArcSwap<RouteTable>>,
    /// Held while the routes are published: the last table to be stored is that of the last change.
    publishing: Mutex<()>,
    /// What the host waits for until it has tried to start every plugin of the folder.
    starting: RwLock<Option<String>>,
    supervisor: Supervisor,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            running: RwLock::default(),
            awaited: RwLock::default(),
            rejected: RwLock::default(),
            routes: Arc::new(ArcSwap::from_pointee(RouteTable::starting())),
            publishing: Mutex::default(),
            starting: RwLock::new(Some("still starting".to_owned())),
            supervisor: Supervisor::default(),
        }
    }
}

impl Services {
    /// The plugins that run.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Service>> {
        self.running.read().clone()
    }

    /// The plugin of this name, when it runs.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.running.read().iter().find(|service| service.name().as_str() == name).cloned()
    }

    /// Adds a plugin that now runs.
    pub(super) fn add(&self, service: Arc<Service>) {
        self.awaited.write().remove(service.name());
        self.running.write().push(service);
    }

    /// Records that a plugin should run and does not. Routes that were known before stay known.
    pub(super) fn expect(&self, plugin: &PluginName, mut awaited: Awaited) {
        {
            let mut all = self.awaited.write();
            if let Some(before) = all.remove(plugin).and_then(|before| before.not_running.routes) {
                let routes = awaited.not_running.routes.get_or_insert_default();
                let known =
                    |new: &Route| routes.iter().any(|old| old.method == new.method && old.path == new.path);
                let further: Vec<Route> = before.into_iter().filter(|route| !known(route)).collect();
                routes.extend(further);
            }
            all.insert(plugin.clone(), awaited);
        }
        self.publish_routes();
    }

    /// Forgets a plugin that does not run: the operator has removed it.
    pub(super) fn forget(&self, plugin: &PluginName) {
        if self.awaited.write().remove(plugin).is_some() {
            self.publish_routes();
        }
    }

    /// The plugins that should run here and do not.
    #[must_use]
    pub fn awaited(&self) -> BTreeMap<PluginName, Awaited> {
        self.awaited.read().clone()
    }

    /// The HTTP endpoints of the plugins that run.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.running.read().iter().map(|service| service.endpoint.clone()).collect()
    }

    /// The routes of the active versions, for the service listener.
    pub(crate) fn routes(&self) -> Arc<ArcSwap<RouteTable>> {
        self.routes.clone()
    }

    /// Publishes the routes of all plugins that are known to the service listener.
    pub(super) fn rebuild_routes(&self) -> Result<(), RouteError> {
        let _one_at_a_time = self.publishing.lock();
        let not_running: Vec<_> =
            self.awaited.read().values().map(|awaited| awaited.not_running.clone()).collect();
        let table = RouteTable::build(&self.endpoints(), &not_running, self.starting().is_some())?;
        self.routes.store(Arc::new(table));
        Ok(())
    }

    fn publish_routes(&self) {
        if let Err(error) = self.rebuild_routes() {
            // The routes of plugins that run were checked when they were activated.
            tracing::error!(reason = %error, "the routes of plugins that do not run are not announced");
        }
    }

    /// The last rejection of each plugin that has one.
    #[must_use]
    pub fn rejections(&self) -> BTreeMap<PluginName, Rejected> {
        self.rejected.read().clone()
    }

    /// The last rejection of a plugin.
    #[must_use]
    pub fn rejection(&self, name: &str) -> Option<Rejected> {
        self.rejected.read().get(name).cloned()
    }

    /// Records why a component was rejected.
    pub(super) fn reject(&self, name: &PluginName, rejected: Rejected) {
        self.rejected.write().insert(name.clone(), rejected);
    }

    /// Forgets a plugin's rejection, of whatever component.
    pub(super) fn accept(&self, name: &str) {
        self.rejected.write().remove(name);
    }

    /// Forgets a plugin's rejection when it was about the component of this digest.
    pub(super) fn accept_digest(&self, name: &str, digest: &str) {
        self.rejected.write().retain(|of, rejected| of.as_str() != name || rejected.digest != digest);
    }

    /// What does not work, and why: a partition that is not read, unreachable brokers, a role that cannot log
    /// in, a paused lane, records that Kafka does not accept, a plugin that should run here but does not, a
    /// task that has ended. The first of each pair is the plugin, the relay or the task.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for service in self.all() {
            let suspended = service.versions.suspended().as_deref().cloned();
            let paused = service.backend.paused.reasons();
            // A plugin that is suspended need not log in.
            let backend = &service.backend;
            let login = suspended.is_none().then(|| backend.database.login_trouble(&backend.role)).flatten();
            let reasons = service.consumer.reasons().into_iter().chain(suspended).chain(login).chain(paused);
            problems.extend(reasons.map(|reason| (service.name().to_string(), reason)));
        }
        let relays: BTreeMap<String, _> = self
            .all()
            .into_iter()
            .map(|service| (service.backend.database.name.clone(), service.backend.relay.clone()))
            .collect();
        for (database, relay) in relays {
            let troubles = relay.troubles().into_iter().map(|trouble| trouble.to_string());
            let reasons = troubles.chain(relay.cannot_lead()).chain(relay.needs_later_build());
            problems.extend(reasons.map(|reason| (format!("relay {database}"), reason)));
        }
        let missing = self.awaited().into_iter();
        let missing = missing.filter(|(_, awaited)| awaited.not_running.cause != Cause::NotDeployed);
        problems.extend(missing.map(|(name, awaited)| (name.to_string(), awaited.reason)));
        problems.extend(self.supervisor.problems());
        problems
    }

    /// Watches the tasks of this host.
    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// What the host waits for; none when it has tried to start every plugin of the folder.
    #[must_use]
    pub fn starting(&self) -> Option<String> {
        self.starting.read().clone()
    }

    /// Records what the host waits for before it starts plugins.
    pub(crate) fn starts_after(&self, reason: String) {
        *self.starting.write() = Some(reason);
    }

    /// Records that the host has tried to start every plugin of the folder.
    pub(super) fn started(&self) {
        *self.starting.write() = None;
        self.publish_routes();
    }
}
