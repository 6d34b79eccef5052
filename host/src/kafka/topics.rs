//! The topics that plugins read and write: made when missing, and how many partitions each has.

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

const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Makes the missing ones of `names` and learns the partition counts of all.
    ///
    /// # Errors
    /// When the brokers are away, or refuse to make a topic.
    pub async fn ensure(self: &std::sync::Arc<Self>, names: Vec<String>) -> anyhow::Result<()> {
        let mut missing = self.unknown(names);
        if missing.is_empty() {
            return Ok(());
        }
        // Each client takes a while to come and go: most often all topics are there, and one look tells.
        let wanted = missing.clone();
        self.blocking(move |topics| topics.learn_existing(&wanted)).await?;
        missing = self.unknown(missing);
        if missing.is_empty() {
            return Ok(());
        }
        self.create(&missing).await?;
        self.blocking(move |topics| topics.learn(&missing)).await
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
        tokio::task::spawn_blocking(move || work(&topics)).await.context("reading Kafka's metadata")?
    }

    /// Partitions of a topic that was [ensured](Topics::ensure); 1 when it was not.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> i32 {
        self.partitions.read().get(topic).copied().unwrap_or(1)
    }

    async fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> =
            self.brokers.client(&[], &[]).create().context("setting up a Kafka client")?;
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
        let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
        let results = admin.create_topics(&topics, &options).await;
        for result in results.context("asking Kafka to make the missing topics")? {
            match result {
                Ok(name) => tracing::info!(topic = name, partitions = self.partitions_default, "topic made"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                // It may well be there; reading the metadata tells.
                Err((
                    name,
                    RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
                )) => {
                    tracing::debug!(topic = name, "not allowed to make topics");
                }
                Err((name, code)) => bail!("Kafka does not make topic {name}: {code}"),
            }
        }
        Ok(())
    }

    /// Those that are there already.
    fn learn_existing(&self, names: &[String]) -> anyhow::Result<()> {
        let client: BaseProducer =
            self.brokers.client(&[], &[]).create().context("setting up a Kafka client")?;
        let metadata =
            client.client().fetch_metadata(None, METADATA_TIMEOUT).context("reading Kafka's metadata")?;
        let mut known = self.partitions.write();
        for topic in metadata.topics().iter().filter(|topic| names.iter().any(|name| name == topic.name())) {
            let count = i32::try_from(topic.partitions().len()).context("partition count")?;
            if count > 0 {
                known.insert(topic.name().to_owned(), count);
            }
        }
        Ok(())
    }

    fn learn(&self, names: &[String]) -> anyhow::Result<()> {
        let client: BaseProducer =
            self.brokers.client(&[], &[]).create().context("setting up a Kafka client")?;
        for name in names {
            let count = (0..50)
                .find_map(|_| match count_partitions(&client, name) {
                    Ok(0) => {
                        std::thread::sleep(Duration::from_millis(100));
                        None
                    }
                    other => Some(other),
                })
                .unwrap_or(Ok(0))?;
            if count == 0 {
                bail!(
                    "topic {name} does not exist and this account may not make it; make it with {} partitions",
                    self.partitions_default
                );
            }
            self.partitions.write().insert(name.clone(), count);
        }
        Ok(())
    }
}

/// Zero while the brokers do not know the topic yet.
fn count_partitions(client: &BaseProducer, name: &str) -> anyhow::Result<i32> {
    let metadata = client
        .client()
        .fetch_metadata(Some(name), METADATA_TIMEOUT)
        .with_context(|| format!("reading Kafka's metadata of topic {name}"))?;
    let count = metadata
        .topics()
        .iter()
        .find(|topic| topic.name() == name)
        .map_or(0, |topic| topic.partitions().len());
    i32::try_from(count).context("partition count")
}
