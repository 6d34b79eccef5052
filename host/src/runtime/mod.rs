//! A running host: what it starts, and in which order it stops.
//!
//! Stopping: no new requests, the lanes finish their units, the consumers leave their groups, the relays send
//! what is committed. What does not end in time is safe in the database.

mod postgres;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{net::TcpListener, sync::mpsc::UnboundedReceiver};
use tokio_util::task::TaskTracker;

use crate::{
    admin,
    config::Config,
    ingress::http,
    kafka::{Brokers, Topics},
    listener::{self, Limits, handles},
    plugin::engine::Engine,
    rollout::{
        Databases, Launcher, Rollout,
        services::Services,
        tasks::{Stops, Tasks},
    },
    store::Server,
    versions::rollback_guard::{RollbackRequest, RollbackRequests},
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
    /// Serves both listeners, waits until Postgres answers, then starts the plugins of the folder. Until a
    /// plugin runs, its routes are answered 503.
    ///
    /// # Errors
    /// The host cannot start; the message says what to do. A plugin that cannot run does not prevent the
    /// start: the others run, and the host API reports it.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let http = listener::bind("the service routes", "--http", &config.http).await?;
        let admin = listener::bind("the host API", "--admin", &config.admin).await?;
        let (http_address, admin_address) = (http.local_addr()?, admin.local_addr()?);
        admin::check_exposure(&admin_address, config.admin_token.as_deref())?;
        let server = server(&config)?;
        let (rollback_requests, requests) = tokio::sync::mpsc::unbounded_channel();
        let rollout = rollout(&config, &server, rollback_requests)?;
        let Launcher { stops, tasks, .. } = &rollout.launcher;
        let (stops, tasks) = (stops.clone(), tasks.clone());
        serve(&config, &rollout, http, admin);
        let (services, folder) = (rollout.services.clone(), rollout.read_folder());
        let (folder, plugins) = folder.await?;
        postgres::wait(&server, &services).await?;
        rollout.refuse_unmigrated(&plugins).await?;
        rollout.watch_folder(folder, plugins).await;
        start_rollout_tasks(&rollout, requests);
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

    /// Waits until a part of the host has ended that cannot be started again: stop the host.
    pub async fn failed(&self) {
        self.services.supervisor().fatal().cancelled().await;
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

/// What changes which versions run; no plugin runs yet.
fn rollout(
    config: &Config,
    server: &Server,
    rollback_requests: RollbackRequests,
) -> anyhow::Result<Arc<Rollout>> {
    let brokers = Brokers::new(&config.kafka, &config.kafka_properties);
    let topics = Topics::new(brokers, config.topic_partitions, config.topic_replication);
    let services = Arc::<Services>::default();
    let launcher = Launcher {
        host_id: uuid::Uuid::new_v4().to_string(),
        topics: Arc::new(topics),
        engine: Engine::new(&config.cache)?,
        rollback_requests,
        stops: Stops::default(),
        tasks: Tasks::default(),
        supervisor: services.supervisor().clone(),
        receivers: Arc::default(),
        relays: parking_lot::Mutex::default(),
        agreed_topics: parking_lot::Mutex::default(),
    };
    Ok(Arc::new(Rollout {
        services,
        databases: Databases::new(server.clone(), config.migrations),
        launcher,
        folder: config.plugins.clone(),
        write_policies: config.development,
        one_at_a_time: tokio::sync::Mutex::default(),
    }))
}

/// Serves both listeners in tasks of their own, until the host stops.
fn serve(config: &Config, rollout: &Arc<Rollout>, http: TcpListener, admin: TcpListener) {
    let callers = &config.callers;
    let Launcher { supervisor, stops: Stops { listeners: stop, .. }, tasks, .. } = &rollout.launcher;
    let (http_max, admin_max) = handles::connections(
        handles::raise_limit(),
        callers.http_connections_max as usize,
        callers.admin_connections_max as usize,
    );
    let limits = |connections_max, connections_setting| Limits {
        connections_max,
        connections_setting,
        header_within: Duration::from_secs(callers.header_s_max.into()),
        idle_max: Duration::from_secs(callers.idle_s_max.into()),
        streams_max: callers.streams_max,
    };
    let access = admin::Access::new(config.admin_token.as_deref());
    let host_api = admin::service(access, rollout.clone(), callers.component_within());
    let admin = listener::serve(
        admin,
        "host API",
        host_api,
        limits(admin_max, "admin_connections_max"),
        stop.clone(),
    );
    let admin = supervisor.clone().rely_on("listener of the host API", stop.clone(), admin.map(Ok));
    tasks.listeners.spawn(admin);
    let routes = rollout.services.routes();
    let service_routes = http::service(routes, callers.body_within(), stop.clone());
    let http = listener::serve(
        http,
        "service routes",
        service_routes,
        limits(http_max, "http_connections_max"),
        stop.clone(),
    );
    let http = supervisor.clone().rely_on("listener of the service routes", stop.clone(), http.map(Ok));
    tasks.listeners.spawn(http);
}

fn server(config: &Config) -> anyhow::Result<Server> {
    let server = Server::new(&config.postgres)?.for_development(config.development);
    match &config.postgres_password_file {
        Some(file) => server.with_password_file(file.clone()),
        None => Ok(server),
    }
}

async fn end(what: &str, tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(STAGE_WITHIN, tasks.wait()).await.is_err() {
        let seconds = STAGE_WITHIN.as_secs();
        tracing::warn!("the {what} did not end within {seconds} s; unfinished units are rolled back");
    }
}

/// The tasks that follow other hosts, guard new versions and drain old ones.
fn start_rollout_tasks(rollout: &Arc<Rollout>, requests: UnboundedReceiver<RollbackRequest>) {
    keep(rollout, "follower of other hosts", |rollout| async move { rollout.follow().await });
    keep(rollout, "drain of old versions", |rollout| async move { rollout.drain().await });
    keep(rollout, "refresh of credentials", |rollout| async move {
        let stop = rollout.launcher.stops.listeners.clone();
        rollout.databases.refresh_credentials(stop).await;
    });
    let Launcher { supervisor, stops, tasks, .. } = &rollout.launcher;
    let (guarded, stop) = (rollout.clone(), stops.listeners.clone());
    let guard = async move { guarded.guard(requests).await };
    tasks.listeners.spawn(supervisor.clone().rely_on("rollback guard", stop, guard.map(Ok)));
}

/// Runs a task of the rollout until the host stops, and starts it again whenever it ends.
fn keep<F>(rollout: &Arc<Rollout>, name: &str, run: impl Fn(Arc<Rollout>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Launcher { supervisor, stops, tasks, .. } = &rollout.launcher;
    let kept = rollout.clone();
    let task = move || run(kept.clone()).map(Ok);
    tasks.listeners.spawn(supervisor.clone().keep(name.to_owned(), stops.listeners.clone(), task));
}
