//! Starts what a plugin needs to run: its relay, two lanes and a consumer.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    databases::Databases,
    drain,
    service::Service,
    tasks::{Stops, Tasks},
};
use crate::{
    claims::partitions::PartitionClaims,
    ingress::{
        http::{readers::Readers, router::Endpoint},
        kafka::{
            consumer::{self, ConsumerContext},
            health::ConsumerHealth,
        },
    },
    kafka::{Brokers, Topics},
    lane::{LaneContext, http::HttpLane, kafka::KafkaLane},
    metrics::{IgnoredDeliveries, SagaDurations},
    model::{format::AgreedFormat, plugin_name::PluginName, queue::Queue},
    plugin::engine::Engine,
    relay::Relay,
    store::Database,
    unit::{Backend, paused::PausedLanes, waiters::Waiters},
    versions::{PluginVersions, loader::Loader, rollback_guard::RollbackRequests, running::Running},
};

/// Starts plugins.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// The id of this host in the databases.
    pub(crate) host_id: String,
    pub(crate) brokers: Brokers,
    pub(crate) topics: Arc<Topics>,
    pub(crate) engine: Engine,
    pub(crate) rollback_requests: RollbackRequests,
    pub(crate) stops: Stops,
    pub(crate) tasks: Tasks,
    /// By database.
    pub(crate) relays: Mutex<HashMap<String, Arc<Relay>>>,
}

impl Launcher {
    /// Starts a plugin that does not run yet.
    pub(super) async fn launch(
        &self,
        name: &PluginName,
        database: Database,
        active: Running,
    ) -> anyhow::Result<Arc<Service>> {
        let relay = self.relay(&database);
        if !active.version.manifest.publishes.is_empty() {
            relay.expect_records();
        }
        let service = Arc::new(self.service(name, database, relay, active));
        // The draining versions must be loaded before the lanes start: they own saga types, too.
        drain::maintain(service.name(), &service.backend.database.admin, &service.versions).await?;
        self.start(&service)?;
        Ok(service)
    }

    fn service(&self, name: &PluginName, database: Database, relay: Arc<Relay>, active: Running) -> Service {
        let version = active.version.clone();
        let plugin = version.plugin.clone();
        let queue_bytes_max = version.policy.limits.queue_bytes_max;
        let role = Databases::role(&version);
        let loader = Loader {
            database: database.clone(),
            engine: self.engine.clone(),
            topics: self.topics.clone(),
            relay: relay.clone(),
        };
        let versions = Arc::new(PluginVersions::new(active, loader, self.rollback_requests.clone()));
        let endpoint = Endpoint {
            plugin: plugin.clone(),
            versions: versions.clone(),
            requests: Arc::new(Queue::new(queue_bytes_max)),
            readers: Readers::new(database.clone(), role.clone()),
        };
        Service {
            name: name.clone(),
            backend: Arc::new(Backend {
                plugin,
                database,
                role,
                topics: self.topics.clone(),
                relay,
                saga_durations: SagaDurations::default(),
                ignored: IgnoredDeliveries::default(),
                format: AgreedFormat::default(),
                paused: PausedLanes::default(),
            }),
            versions,
            endpoint: Arc::new(endpoint),
            deliveries: Arc::new(Queue::new(queue_bytes_max)),
            consumer: Arc::new(ConsumerHealth::default()),
            delivery_stages: Arc::default(),
            request_stages: Arc::default(),
        }
    }

    fn start(&self, service: &Service) -> anyhow::Result<()> {
        let (backend, versions) = (service.backend.clone(), service.versions.clone());
        let waiters = Waiters::new(backend.database.admin.clone(), backend.relay.notifier().clone());
        let claims = Arc::<PartitionClaims>::default();
        let context = LaneContext {
            backend: backend.clone(),
            versions: versions.clone(),
            host_id: self.host_id.clone(),
            stop: self.stops.lanes.clone(),
        };
        let (requests, queue) = (service.endpoint.requests.clone(), service.deliveries.clone());
        let kafka = KafkaLane::new(
            context.clone(),
            service.delivery_stages.clone(),
            queue.clone(),
            claims.clone(),
            waiters.clone(),
        );
        self.tasks.lanes.spawn(kafka.run());
        let http = HttpLane::new(context, service.request_stages.clone(), requests, waiters);
        self.tasks.lanes.spawn(http.run());
        let thread = consumer::spawn(ConsumerContext {
            backend,
            versions,
            queue,
            claims,
            health: service.consumer.clone(),
            brokers: self.brokers.clone(),
            stop: self.stops.consumers.clone(),
        })?;
        self.tasks.consumers.spawn_blocking(move || thread.join());
        Ok(())
    }

    /// The relay of a database, started when it is first needed.
    fn relay(&self, database: &Database) -> Arc<Relay> {
        let mut relays = self.relays.lock();
        if let Some(relay) = relays.get(&database.name) {
            return relay.clone();
        }
        let relay = Relay::new(database.clone(), self.brokers.clone(), &self.host_id);
        self.tasks.relays.spawn(relay.clone().run(self.stops.relays.clone()));
        self.tasks.relays.spawn(relay.notifier().clone().run(self.stops.relays.clone()));
        relays.insert(database.name.clone(), relay.clone());
        relay
    }
}
