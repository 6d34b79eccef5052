//! What the consumer and the relay share: how to connect to the brokers, how a client's errors reach the log,
//! and the topics with their partitions.

mod client_log;
mod cluster;
mod describe_topics;
pub mod raw_headers;
mod topics;

pub use self::{client_log::ClientLog, cluster::Cluster, describe_topics::TopicDescription, topics::Topics};

use rdkafka::ClientConfig;

/// The address of the brokers, and the librdkafka properties that the operator has set.
#[derive(Clone, Debug)]
pub struct Brokers {
    bootstrap: String,
    properties: Vec<(String, String)>,
}

impl Brokers {
    /// `bootstrap` is a comma-separated list of `host:port`.
    #[must_use]
    pub fn new(bootstrap: &str, properties: &[(String, String)]) -> Self {
        Self { bootstrap: bootstrap.to_owned(), properties: properties.to_vec() }
    }

    /// The configuration of a client. The operator's properties override `defaults`, but not `required`, on
    /// which the guarantees of the host depend.
    #[must_use]
    pub fn client(&self, defaults: &[(&str, &str)], required: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "saga-host");
        // Each partition of a unit is a small request. With Nagle's algorithm one would wait for the answer
        // to another.
        config.set("socket.nagle.disable", "true");
        // By default the client waits up to 10 s before it tries again to reach a broker that was down.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, value) in required {
            config.set(*name, *value);
        }
        config
    }
}
