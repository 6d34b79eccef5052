//! The topics that plugins read and write: creates the missing ones, and knows the partition count of each.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, bail};
use parking_lot::RwLock;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, Producer},
    types::RDKafkaErrorCode,
};

use super::Brokers;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the metadata of a new topic is read, and the pause in between, until the brokers know it.
const NEW_TOPIC_ATTEMPTS_MAX: u32 = 50;
const NEW_TOPIC_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Partition counts by topic, shared by all plugins of a host.
#[derive(Debug)]
pub struct Topics {
    brokers: Brokers,
    partitions_default: i32,
    replication_default: i32,
    partitions: RwLock<HashMap<String, i32>>,
}

impl Topics {
    /// `partitions_default` and `replication_default` are those of topics that the host creates.
    #[must_use]
    pub fn new(brokers: Brokers, partitions_default: i32, replication_default: i32) -> Self {
        Self { brokers, partitions_default, replication_default, partitions: RwLock::default() }
    }

    /// Creates the missing ones of `names` and reads the partition counts of all.
    ///
    /// # Errors
    /// The brokers are unreachable, or refuse to create a topic.
    pub async fn ensure(self: &std::sync::Arc<Self>, names: Vec<String>) -> anyhow::Result<()> {
        let mut missing = self.unknown(names);
        if missing.is_empty() {
            return Ok(());
        }
        // Creating a client takes a while. Most often all topics exist, and one metadata request is enough.
        let wanted = missing.clone();
        self.blocking(move |topics| topics.read_existing(&wanted)).await?;
        missing = self.unknown(missing);
        if missing.is_empty() {
            return Ok(());
        }
        self.create(&missing).await?;
        self.blocking(move |topics| topics.read_new(&missing)).await
    }

    fn unknown(&self, names: Vec<String>) -> Vec<String> {
        let known = self.partitions.read();
        names.into_iter().filter(|name| !known.contains_key(name)).collect()
    }

    async fn blocking(
        self: &std::sync::Arc<Self>,
        work: impl FnOnce(&Self) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let topics = self.clone();
        tokio::task::spawn_blocking(move || work(&topics))
            .await
            .context("reading the metadata of Kafka topics")?
    }

    /// The partition count of a topic after [`Topics::ensure`]; 1 before.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> i32 {
        self.partitions.read().get(topic).copied().unwrap_or(1)
    }

    async fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self
            .brokers
            .client(&[], &[])
            .create()
            .context("creating a Kafka client, check kafka_properties")?;
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                NewTopic::new(
                    name,
                    self.partitions_default,
                    TopicReplication::Fixed(self.replication_default),
                )
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let results = admin.create_topics(&topics, &options).await;
        for result in results.context("creating topics in Kafka")? {
            match result {
                Ok(name) => {
                    tracing::info!(topic = name, partitions = self.partitions_default, "topic created")
                }
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                // The topic may exist all the same; its metadata shows that.
                Err((
                    name,
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
                )) => {
                    tracing::debug!(topic = name, "this account may not create topics");
                }
                Err((name, code)) => bail!("Kafka refuses to create topic {name}: {code}"),
            }
        }
        Ok(())
    }

    /// Reads the partition counts of those topics that exist.
    fn read_existing(&self, names: &[String]) -> anyhow::Result<()> {
        let client: BaseProducer = self
            .brokers
            .client(&[], &[])
            .create()
            .context("creating a Kafka client, check kafka_properties")?;
        let metadata = client
            .client()
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .context("reading the metadata of Kafka topics")?;
        let mut known = self.partitions.write();
        for topic in metadata.topics().iter().filter(|topic| names.iter().any(|name| name == topic.name())) {
            let count = i32::try_from(topic.partitions().len()).context("counting partitions")?;
            if count > 0 {
                known.insert(topic.name().to_owned(), count);
            }
        }
        Ok(())
    }

    /// Reads the partition counts of topics that were just created: waits until the brokers know them.
    fn read_new(&self, names: &[String]) -> anyhow::Result<()> {
        let client: BaseProducer = self
            .brokers
            .client(&[], &[])
            .create()
            .context("creating a Kafka client, check kafka_properties")?;
        for name in names {
            let count = (0..NEW_TOPIC_ATTEMPTS_MAX)
                .find_map(|_| match count_partitions(&client, name) {
                    Ok(0) => {
                        std::thread::sleep(NEW_TOPIC_RETRY_PAUSE);
                        None
                    }
                    other => Some(other),
                })
                .unwrap_or(Ok(0))?;
            if count == 0 {
                bail!(
                    "topic {name} does not exist and this account may not create it; create it with {} \
                     partitions",
                    self.partitions_default
                );
            }
            self.partitions.write().insert(name.clone(), count);
        }
        Ok(())
    }
}

/// The partition count of a topic, 0 while the brokers do not know it.
fn count_partitions(client: &BaseProducer, name: &str) -> anyhow::Result<i32> {
    let metadata = client
        .client()
        .fetch_metadata(Some(name), REQUEST_TIMEOUT)
        .with_context(|| format!("reading the metadata of Kafka topic {name}"))?;
    let count = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == name)
        .map_or(0, |topic| topic.partitions().len());
    i32::try_from(count).context("counting partitions")
}
