//! A running host: what it starts, and in which order it stops.
//!
//! Stopping: no new requests, the lanes finish their units, the consumers leave their groups, the relays send
//! what is committed. What does not end in time is safe in the database.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use crate::{
    admin,
    config::Config,
    ingress::http,
    kafka::{Brokers, Topics},
    plugin::engine::Engine,
    rollout::{
        Databases, Launcher, Rollout,
        services::Services,
        tasks::{Stops, Tasks},
    },
    store::Server,
};

/// How long each stage of stopping may take.
const STAGE_WITHIN: Duration = Duration::from_secs(10);

/// A running host.
#[derive(Debug)]
pub struct Host {
    services: Arc<Services>,
    stops: Stops,
    tasks: Tasks,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Host {
    /// Connects to Postgres, loads the plugins of the folder, and starts lanes and listeners.
    ///
    /// # Errors
    /// The host cannot start; the message says what to do. A plugin that cannot run does not prevent the
    /// start: the others run, and the host API reports it.
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
        let (rollback_requests, requests) = tokio::sync::mpsc::unbounded_channel();
        let (stops, tasks) = (Stops::default(), Tasks::default());
        let services = Arc::<Services>::default();
        let launcher = Launcher {
            host_id: uuid::Uuid::new_v4().to_string(),
            brokers: brokers.clone(),
            topics: Arc::new(topics),
            engine: Engine::new(&config.cache)?,
            rollback_requests,
            stops: stops.clone(),
            tasks: tasks.clone(),
            relays: parking_lot::Mutex::default(),
        };
        let rollout = Arc::new(Rollout {
            services: services.clone(),
            databases: Databases::new(server, config.migrations),
            launcher,
            folder: config.plugins,
            write_policies: config.write_policies,
            one_at_a_time: tokio::sync::Mutex::default(),
        });
        let access = admin::Access::new(config.admin_token.as_deref());
        let host_api = admin::router(access, services.clone(), rollout.clone(), brokers);
        let host_api = admin::serve(admin, host_api, stops.listeners.clone());
        tasks.listeners.spawn(async { log_failure("host API", host_api.await) });
        rollout.watch_folder().await;
        let follower = rollout.clone();
        tasks.listeners.spawn(async move { follower.follow().await });
        let guard = rollout.clone();
        tasks.listeners.spawn(async move { guard.guard(requests).await });
        tasks.listeners.spawn(async move { rollout.drain().await });
        // Requests that arrive earlier wait in the listener's queue, so none is answered with 404 meanwhile.
        let service_routes = http::serve(http, services.routes(), stops.listeners.clone());
        tasks.listeners.spawn(async { log_failure("service routes", service_routes.await) });
        Ok(Self { services, stops, tasks, http: http_address, admin: admin_address })
    }

    /// The address of the service routes.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The address of the host API.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Stops the host: units finish, relays send, consumers leave their groups. When the future is dropped
    /// halfway, the host stops as after `kill -9`, which loses nothing either.
    pub async fn stop(self) {
        let Self { services, stops, tasks, .. } = self;
        stops.listeners.cancel();
        end("requests", &tasks.listeners).await;
        for service in services.all() {
            service.endpoint.requests.close();
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
        let seconds = STAGE_WITHIN.as_secs();
        tracing::warn!("the {what} did not end within {seconds} s; unfinished units are rolled back");
    }
}

fn log_failure(what: &str, done: std::io::Result<()>) {
    if let Err(error) = done {
        tracing::error!("the listener of the {what} failed; restart the host: {error}");
    }
}
