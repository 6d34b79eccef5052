//! One plugin as this host runs it: the parts that launch has put together.

use std::sync::Arc;

use crate::{
    ingress::{http::router::Endpoint, kafka::health::ConsumerHealth},
    model::{delivery::Delivery, plugin_name::PluginName, queue::Queue},
    unit::{Backend, stages::Stages},
    versions::PluginVersions,
};

/// One plugin. Lanes, ingress and the relay hold only the parts that they need; only rollout and the host API
/// see the whole.
#[derive(Debug)]
pub struct Service {
    /// The plugin.
    pub name: PluginName,
    /// Its database, role, topics and relay.
    pub backend: Arc<Backend>,
    /// Its versions on this host.
    pub versions: Arc<PluginVersions>,
    /// Its HTTP routes, with the queue of the HTTP lane.
    pub endpoint: Arc<Endpoint>,
    /// The queue of the Kafka lane.
    pub deliveries: Arc<Queue<Delivery>>,
    /// The state of its consumer.
    pub consumer: Arc<ConsumerHealth>,
    /// The time that units of the Kafka lane spend in each stage.
    pub delivery_stages: Arc<Stages>,
    /// The time that units of the HTTP lane spend in each stage.
    pub request_stages: Arc<Stages>,
}

impl Service {
    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }
}
