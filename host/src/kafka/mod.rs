//! What the consumer and the producer share: how to reach the brokers, and what topics there are.

mod topics;

pub use topics::Topics;

use rdkafka::ClientConfig;

/// The brokers, with whatever librdkafka properties the operator has set.
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

    /// A client's settings: `defaults` first, so that the operator's properties win, but not over
    /// `required`, on which the promises rest.
    #[must_use]
    pub fn client(&self, defaults: &[(&str, &str)], required: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "saga-host");
        // Each partition of a unit is a small request of its own: none waits for the answer to another.
        config.set("socket.nagle.disable", "true");
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
