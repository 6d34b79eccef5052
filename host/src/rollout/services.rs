//! The plugins that run on this host, and why others do not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use super::service::Service;
use crate::ingress::http::router::{Endpoint, RouteError, RouteTable};

/// The last rejection of a plugin's component.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Digest of the component.
    pub digest: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
    /// When it was rejected.
    pub at: SystemTime,
    /// Whether the plugin should run here: the environment was at fault and the host retries, or another host
    /// has activated the version.
    pub expected: bool,
}

/// The plugins of this host.
#[derive(Debug)]
pub struct Services {
    running: RwLock<Vec<Arc<Service>>>,
    rejected: RwLock<BTreeMap<String, Rejected>>,
    routes: Arc<ArcSwap<RouteTable>>,
    starting: AtomicBool,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            running: RwLock::default(),
            rejected: RwLock::default(),
            routes: Arc::new(ArcSwap::from_pointee(RouteTable::default())),
            starting: AtomicBool::new(true),
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
        self.running.read().iter().find(|service| service.name() == name).cloned()
    }

    /// Adds a plugin that now runs.
    pub(super) fn add(&self, service: Arc<Service>) {
        self.running.write().push(service);
    }

    /// The HTTP endpoints of the plugins that run.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.running.read().iter().map(|service| service.endpoint.clone()).collect()
    }

    /// The routes of the active versions, for the service listener.
    pub(crate) fn routes(&self) -> Arc<ArcSwap<RouteTable>> {
        self.routes.clone()
    }

    /// Publishes the routes of the active versions to the service listener.
    pub(super) fn rebuild_routes(&self) -> Result<(), RouteError> {
        self.routes.store(Arc::new(RouteTable::build(&self.endpoints())?));
        Ok(())
    }

    /// The last rejection of each plugin that has one.
    #[must_use]
    pub fn rejections(&self) -> BTreeMap<String, Rejected> {
        self.rejected.read().clone()
    }

    /// The last rejection of a plugin.
    #[must_use]
    pub fn rejection(&self, name: &str) -> Option<Rejected> {
        self.rejected.read().get(name).cloned()
    }

    /// Records why a component was rejected.
    pub(super) fn reject(&self, name: &str, rejected: Rejected) {
        self.rejected.write().insert(name.to_owned(), rejected);
    }

    /// Forgets a plugin's rejection, of whatever component.
    pub(super) fn accept(&self, name: &str) {
        self.rejected.write().remove(name);
    }

    /// Forgets a plugin's rejection when it was about the component of this digest.
    pub(super) fn accept_digest(&self, name: &str, digest: &str) {
        self.rejected.write().retain(|of, rejected| of != name || rejected.digest != digest);
    }

    /// What does not work, and why: a stopped partition, unreachable brokers, a plugin that should run here
    /// but does not. The first of each pair is the plugin.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for service in self.all() {
            let suspended = service.versions.suspended().as_deref().cloned();
            let consumer = &service.consumer;
            let reasons = consumer.stopped().into_iter().chain(consumer.trouble()).chain(suspended);
            problems.extend(reasons.map(|reason| (service.name().to_owned(), reason)));
        }
        let missing = self.rejections().into_iter().filter(|(_, rejected)| rejected.expected);
        let missing = missing.filter(|(name, _)| self.find(name).is_none());
        problems.extend(missing.map(|(name, rejected)| (name, rejected.reason)));
        problems
    }

    /// True until the host has tried to start every plugin of the folder.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    /// Records that the host has tried to start every plugin of the folder.
    pub(super) fn started(&self) {
        self.starting.store(false, Ordering::Release);
    }
}
