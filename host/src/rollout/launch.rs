//! Starts what a plugin needs to run: its relay, two lanes and a consumer.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    databases::Databases,
    drain,
    service::Service,
    tasks::{Stops, Tasks},
};
use crate::{
    claims::{agreed_topics::AgreedTopics, partitions::PartitionClaims},
    ingress::{
        http::{readers::Readers, router::Endpoint},
        kafka::{
            consumer::{self, ConsumerContext},
            health::ConsumerHealth,
        },
    },
    kafka::Topics,
    lane::{LaneContext, http::HttpLane, kafka::KafkaLane},
    metrics::{IgnoredDeliveries, SagaDurations},
    model::{format::AgreedFormat, plugin_name::PluginName, queue::Queue},
    plugin::engine::Engine,
    relay::{Relay, hand_over::Receivers},
    store::Database,
    supervise::{Supervisor, on_thread},
    unit::{Backend, paused::PausedLanes, waiters::Waiters},
    versions::{PluginVersions, loader::Loader, rollback_guard::RollbackRequests, running::Running},
};

/// Starts plugins.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// The id of this host in the databases.
    pub(crate) host_id: String,
    pub(crate) topics: Arc<Topics>,
    pub(crate) engine: Engine,
    pub(crate) rollback_requests: RollbackRequests,
    pub(crate) stops: Stops,
    pub(crate) tasks: Tasks,
    pub(crate) supervisor: Supervisor,
    pub(crate) receivers: Arc<Receivers>,
    /// By database.
    pub(crate) relays: Mutex<HashMap<String, Arc<Relay>>>,
    /// By database.
    pub(crate) agreed_topics: Mutex<HashMap<String, Arc<AgreedTopics>>>,
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
        self.start(&service);
        Ok(service)
    }

    fn service(&self, name: &PluginName, database: Database, relay: Arc<Relay>, active: Running) -> Service {
        let version = active.version.clone();
        let plugin = version.plugin.clone();
        let queue_bytes_max = version.policy.limits.queue_bytes_max;
        let role = Databases::role(&version);
        let topics = self.agreed_topics(&database);
        let loader = Loader {
            database: database.clone(),
            engine: self.engine.clone(),
            topics: topics.clone(),
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
                topics,
                relay,
                saga_durations: SagaDurations::default(),
                ignored: IgnoredDeliveries::default(),
                format: AgreedFormat::default(),
                paused: PausedLanes::new(name),
            }),
            versions,
            endpoint: Arc::new(endpoint),
            deliveries: Arc::new(Queue::new(queue_bytes_max)),
            consumer: Arc::new(ConsumerHealth::default()),
            delivery_stages: Arc::default(),
            request_stages: Arc::default(),
        }
    }

    fn start(&self, service: &Service) {
        let backend = service.backend.clone();
        let waiters = Waiters::new(backend.database.admin.clone(), backend.relay.notifier().clone());
        let claims = Arc::<PartitionClaims>::default();
        let context = LaneContext {
            backend: backend.clone(),
            versions: service.versions.clone(),
            host_id: self.host_id.clone(),
            stop: self.stops.lanes.clone(),
        };
        self.start_delivery_lane(service, context.clone(), claims.clone(), waiters.clone());
        self.start_request_lane(service, context, waiters);
        let consumer = ConsumerContext {
            backend,
            versions: service.versions.clone(),
            queue: service.deliveries.clone(),
            claims,
            receivers: self.receivers.clone(),
            health: service.consumer.clone(),
            stop: self.stops.consumers.clone(),
        };
        let task = move || {
            let consumer = consumer.clone();
            let name = format!("consume {}", consumer.backend.plugin);
            async move {
                let runtime = Handle::current();
                on_thread(&name, move || consumer::run(&consumer, &runtime)).await
            }
        };
        let name = format!("consumer of {}", service.name());
        self.tasks.consumers.spawn(self.supervisor.clone().keep(name, self.stops.consumers.clone(), task));
    }

    fn start_delivery_lane(
        &self,
        service: &Service,
        context: LaneContext,
        claims: Arc<PartitionClaims>,
        waiters: Arc<Waiters>,
    ) {
        let (stages, queue) = (service.delivery_stages.clone(), service.deliveries.clone());
        let task = move || {
            let (context, stages, queue) = (context.clone(), stages.clone(), queue.clone());
            let lane = KafkaLane::new(context, stages, queue, claims.clone(), waiters.clone());
            async move {
                lane.run().await;
                Ok(())
            }
        };
        let name = format!("delivery lane of {}", service.name());
        self.tasks.lanes.spawn(self.supervisor.clone().keep(name, self.stops.lanes.clone(), task));
    }

    fn start_request_lane(&self, service: &Service, context: LaneContext, waiters: Arc<Waiters>) {
        let (stages, requests) = (service.request_stages.clone(), service.endpoint.requests.clone());
        let task = move || {
            let (context, stages, requests) = (context.clone(), stages.clone(), requests.clone());
            let lane = HttpLane::new(context, stages, requests, waiters.clone());
            async move {
                lane.run().await;
                Ok(())
            }
        };
        let name = format!("request lane of {}", service.name());
        // It ends when its queue is closed, which is after the listeners have stopped.
        self.tasks.lanes.spawn(self.supervisor.clone().keep(name, self.stops.listeners.clone(), task));
    }

    /// The agreed topics of a database, followed from when they are first needed.
    pub(super) fn agreed_topics(&self, database: &Database) -> Arc<AgreedTopics> {
        let mut all = self.agreed_topics.lock();
        if let Some(agreed) = all.get(&database.name) {
            return agreed.clone();
        }
        let agreed = Arc::new(AgreedTopics::new(self.topics.clone(), database.admin.clone()));
        let (followed, stop) = (agreed.clone(), self.stops.listeners.clone());
        let until = stop.clone();
        let task = move || {
            let (followed, until) = (followed.clone(), until.clone());
            async move { followed.follow(until).await }
        };
        let name = format!("topics of {}", database.name);
        self.tasks.listeners.spawn(self.supervisor.clone().keep(name, stop, task));
        all.insert(database.name.clone(), agreed.clone());
        agreed
    }

    /// The relay of a database, started when it is first needed.
    fn relay(&self, database: &Database) -> Arc<Relay> {
        let mut relays = self.relays.lock();
        if let Some(relay) = relays.get(&database.name) {
            return relay.clone();
        }
        let brokers = self.topics.cluster().brokers().clone();
        let relay = Relay::new(database.clone(), brokers, &self.host_id, self.receivers.clone());
        let stop = self.stops.relays.clone();
        let (runs, until) = (relay.clone(), stop.clone());
        let task = move || {
            let run = runs.clone().run(until.clone());
            async move {
                run.await;
                Ok(())
            }
        };
        let name = format!("relay of {}", database.name);
        self.tasks.relays.spawn(self.supervisor.clone().keep(name, stop.clone(), task));
        let (notifier, until) = (relay.notifier().clone(), stop.clone());
        let task = move || {
            let run = notifier.clone().run(until.clone());
            async move {
                run.await;
                Ok(())
            }
        };
        let name = format!("notifier of {}", database.name);
        self.tasks.relays.spawn(self.supervisor.clone().keep(name, stop, task));
        relays.insert(database.name.clone(), relay.clone());
        relay
    }
}
