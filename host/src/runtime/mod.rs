//! A running host: what is started, and in which order it is stopped.
//!
//! Stopping: no new requests, the lanes finish their units, the consumers leave their groups, the
//! relays send what is committed. Whatever does not end in time is safe all the same: it is in the
//! database.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use crate::{
    admin,
    config::Config,
    ingress::http,
    kafka::{Brokers, Topics},
    plugin::engine::Engine,
    rollout::{shared::Shared, watch},
    store::Server,
};
/// How long each stage of stopping may take.
const STAGE_WITHIN: Duration = Duration::from_secs(10);

/// A running host.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    /// Connects, provisions, loads the plugins of the folder, starts lanes and listeners.
    ///
    /// # Errors
    /// What keeps the host from starting, with the mend. A plugin that cannot run does not: the
    /// others do, and the host API tells.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let (http, admin) = (
            admin::listen("the service routes", "--http", &config.http).await?,
            admin::listen("the host API", "--admin", &config.admin).await?,
        );
        let (http_address, admin_address) = (http.local_addr()?, admin.local_addr()?);
        admin::check_exposure(&admin_address, config.admin_token.as_deref())?;
        let server = Server::new(&config.postgres)?;
        drop(server.connect().await?);
        let brokers = Brokers::new(&config.kafka, &config.kafka_properties);
        let topics = Topics::new(brokers.clone(), config.topic_partitions, config.topic_replication);
        let engine = Engine::new(&config.cache)?;
        let (trips, tripped) = tokio::sync::mpsc::unbounded_channel();
        let shared = Shared::new(config, engine, server, brokers, Arc::new(topics), trips);
        let tasks = &shared.tasks;
        let stop = shared.stops.listeners.clone();
        let host_api = admin::serve(admin, shared.clone(), stop.clone());
        tasks.listeners.spawn(async { log_failure("host API", host_api.await) });
        watch::start(&shared).await;
        tasks.listeners.spawn(shared.clone().follow());
        tasks.listeners.spawn(shared.clone().put_back(tripped));
        tasks.listeners.spawn(shared.clone().drain());
        // Requests that come earlier wait in the listener's queue: nobody is told that a route is not there.
        let service_routes = http::serve(http, shared.routes.clone(), stop);
        tasks.listeners.spawn(async { log_failure("service routes", service_routes.await) });
        Ok(Self { shared, http: http_address, admin: admin_address })
    }

    /// Where the service routes are.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where the host API is.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What the host API sees.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Ends the host: units finish, relays flush, groups are left. Dropped halfway, it stops as by
    /// `kill -9`, which loses nothing either.
    pub async fn stop(self) {
        let Shared { stops, tasks, .. } = &*self.shared;
        stops.listeners.cancel();
        end("requests", &tasks.listeners).await;
        for service in self.shared.services() {
            service.requests.close();
        }
        stops.lanes.cancel();
        end("units", &tasks.lanes).await;
        stops.consumers.cancel();
        end("consumers", &tasks.consumers).await;
        stops.relays.cancel();
        end("relays", &tasks.relays).await;
    }
}

async fn end(what: &str, tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(STAGE_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!(
            "{what} did not end in {} s; what they had begun is rolled back",
            STAGE_WITHIN.as_secs()
        );
    }
}

fn log_failure(what: &str, done: std::io::Result<()>) {
    if let Err(error) = done {
        tracing::error!("the listener of the {what} ended: {error}");
    }
}
