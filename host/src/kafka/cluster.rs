//! Asks the brokers: whether they answer, what topics there are, which offsets a partition has. One client
//! for a whole host; none of its questions belongs to a consumer group or to the relay.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use rdkafka::producer::{BaseProducer, Producer};

use super::{
    Brokers, ClientLog,
    describe_topics::{TopicDescription, describe_topics},
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

type Client = BaseProducer<ClientLog>;

/// The brokers, through a client that connects at the first question. Clones share the client.
#[derive(Clone)]
pub struct Cluster {
    brokers: Brokers,
    client: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Cluster {
    /// Asks these brokers.
    #[must_use]
    pub fn new(brokers: Brokers) -> Self {
        Self { brokers, client: Arc::default() }
    }

    /// How to connect to the brokers.
    #[must_use]
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Whether the brokers answer within 2 s.
    ///
    /// # Errors
    /// They do not.
    pub async fn answers(&self) -> anyhow::Result<()> {
        self.ask(|client| Ok(client.client().fetch_metadata(None, ANSWER_WITHIN).map(drop)?)).await
    }

    /// Describes those of these topics that exist.
    ///
    /// # Errors
    /// The brokers are unreachable, or refuse to describe a topic.
    pub async fn describe(
        &self,
        names: Vec<String>,
    ) -> anyhow::Result<Vec<anyhow::Result<TopicDescription>>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(move |client| {
            describe_topics(client.client(), &names, REQUEST_TIMEOUT)
                .with_context(|| format!("reading the metadata of the Kafka topics {}", names.join(", ")))
        })
        .await
    }

    /// The lowest offset of a partition, and the one after the highest.
    ///
    /// # Errors
    /// The brokers are unreachable, or the partition does not exist.
    pub async fn offsets(&self, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            client.client().fetch_watermarks(&topic, partition, REQUEST_TIMEOUT).with_context(|| {
                format!("reading the first and last offset of {topic}/{partition} from Kafka")
            })
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Client) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let this = self.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let client = this.client()?;
            let answer = question(&client);
            // Drops what has happened in the background: nobody else polls this client.
            client.poll(Duration::ZERO);
            if answer.is_ok() {
                client.context().works();
            }
            answer
        });
        answer.await.context("asking the Kafka brokers")?
    }

    fn client(&self) -> anyhow::Result<Arc<Client>> {
        let mut client = self.client.lock();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made: Client = self
            .brokers
            .client(&[], &[])
            .create_with_context(ClientLog::new("questions of the host"))
            .context("creating a Kafka client, check kafka_properties")?;
        Ok(client.insert(Arc::new(made)).clone())
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}
