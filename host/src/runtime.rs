//! A running host: what is started, and in which order it is stopped.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use parking_lot::RwLock;

use crate::{config::Config, plugin::engine::Engine, service::Service, store::Server};

/// A running host.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
}

impl Host {
    /// Connects, provisions, loads plugins, starts lanes and listeners.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn start(_config: Config) -> anyhow::Result<Self> {
        anyhow::bail!("this build cannot start a host")
    }

    /// Where the service routes are.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 7080).into()
    }

    /// Where the host API is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 7081).into()
    }

    /// What the host API sees.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Ends the host: units finish, relays flush, groups are left.
    pub async fn stop(self) {}
}

/// The last rejection of a plugin's component.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Of the component.
    pub digest: String,
    /// What is wrong with it, with the mend.
    pub reason: String,
    /// When.
    pub at: SystemTime,
}

/// What the host API sees.
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
}

/// What a deployment did.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Active now.
    pub digest: String,
    /// As the plugin names it.
    pub version: String,
    /// Counts activations.
    pub generation: i64,
    /// Active before.
    pub was: Option<String>,
}

/// Why a deployment changed nothing.
#[derive(Clone, Debug)]
pub enum DeployError {
    /// It is active already.
    SameDigest(String),
    /// What is wrong with the component.
    Rejected(String),
    /// Postgres or the disk.
    Environment(String),
}

impl Shared {
    /// Validates, stores and activates a component.
    ///
    /// # Errors
    /// Why the version that was active stays.
    pub async fn deploy(self: &Arc<Self>, _name: &str, _bytes: Vec<u8>, _by: &str) -> Result<Deployed, DeployError> {
        Err(DeployError::Environment("this build deploys nothing".to_owned()))
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

    /// True until every plugin of the folder has been looked at.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    /// Parts that stand still, with the reason: a partition that was stopped, brokers that do not answer.
    #[must_use]
    pub fn troubles(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
