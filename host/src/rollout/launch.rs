//! Starts what a plugin needs to run: its relay, two lanes and a consumer.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{drain, service::Service, shared::Shared};
use crate::{
    claims::partitions::PartitionClaims,
    ingress::{
        http::readers::Readers,
        kafka::{
            consumer::{self, Setting},
            health::Health,
        },
    },
    lane::{http::HttpLane, kafka::KafkaLane},
    model::queue::Queue,
    relay::Relay,
    store::{Database, PluginRole},
    unit::waiters::Waiters,
    versions::{draining::Draining, running::Running},
};

impl Shared {
    /// Runs a plugin that did not run before.
    pub(super) async fn launch(self: &Arc<Self>, active: Running) -> anyhow::Result<()> {
        let policy = active.version.policy.clone();
        let database = self.database(&policy.database.name);
        let relay = self.relay(&database);
        if !active.version.manifest.publishes.is_empty() {
            relay.expect_records();
        }
        let role = PluginRole { plugin: active.version.plugin.clone(), name: policy.database.role.clone() };
        let service = Arc::new(Service {
            name: active.version.plugin.clone(),
            waiters: Waiters::new(database.admin.clone(), relay.neighbours().clone()),
            relay,
            topics: self.topics.clone(),
            deliveries: Arc::new(Queue::new(policy.limits.queue_bytes_max)),
            requests: Arc::new(Queue::new(policy.limits.queue_bytes_max)),
            delivery_stages: Arc::default(),
            request_stages: Arc::default(),
            readers: Readers::new(database.clone(), role.clone()),
            consumer: Health::default(),
            trips: self.trips.clone(),
            engine: self.engine.clone(),
            behind: ArcSwapOption::empty(),
            draining: Draining::default(),
            database,
            role,
            active: ArcSwap::from_pointee(active),
        });
        // Before the lanes start: only then do they know the types of all sagas in flight.
        drain::look_after(&service).await?;
        let claims = Arc::<PartitionClaims>::default();
        let (stop, tasks) = (&self.stops, &self.tasks);
        let kafka = KafkaLane::new(service.clone(), claims.clone(), &self.owner, stop.lanes.clone());
        tasks.lanes.spawn(kafka.run());
        tasks.lanes.spawn(HttpLane::new(service.clone(), &self.owner, stop.lanes.clone()).run());
        let setting = Setting {
            service: service.clone(),
            claims,
            brokers: self.brokers.clone(),
            stop: stop.consumers.clone(),
        };
        let thread = consumer::spawn(setting)?;
        tasks.consumers.spawn_blocking(move || thread.join());
        self.services.write().push(service);
        Ok(())
    }

    /// The relay of a database, started when first asked for.
    fn relay(&self, database: &Database) -> Arc<Relay> {
        let mut relays = self.relays.lock();
        if let Some(relay) = relays.get(&database.name) {
            return relay.clone();
        }
        let relay = Relay::new(database.clone(), self.brokers.clone(), &self.owner);
        self.tasks.relays.spawn(relay.clone().run(self.stops.relays.clone()));
        self.tasks.relays.spawn(relay.neighbours().clone().run(self.stops.relays.clone()));
        relays.insert(database.name.clone(), relay.clone());
        relay
    }
}
