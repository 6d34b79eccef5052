//! The topics that plugins read and write: creates the missing ones, and describes all.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};
use tokio::sync::Notify;

use super::{Brokers, Cluster, TopicDescription};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the metadata of a new topic is read, and the pause in between, until the brokers know it.
const NEW_TOPIC_ATTEMPTS_MAX: u32 = 50;
const NEW_TOPIC_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The topics of one cluster, shared by all plugins of a host.
#[derive(Debug)]
pub struct Topics {
    cluster: Cluster,
    partitions_default: i32,
    replication_default: i32,
    /// The highest partition count that any part of this host has seen, by topic. Brokers can differ for a while.
    seen: Mutex<HashMap<String, i32>>,
    grown: Notify,
}

impl Topics {
    /// `partitions_default` and `replication_default` are those of topics that the host creates.
    #[must_use]
    pub fn new(brokers: Brokers, partitions_default: i32, replication_default: i32) -> Self {
        Self {
            cluster: Cluster::new(brokers),
            partitions_default,
            replication_default,
            seen: Mutex::default(),
            grown: Notify::new(),
        }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Creates the missing ones of `names` and describes all.
    ///
    /// # Errors
    /// The brokers are unreachable, or refuse to create a topic.
    pub async fn ensure(&self, mut names: Vec<String>) -> anyhow::Result<Vec<TopicDescription>> {
        names.sort_unstable();
        names.dedup();
        // Creating a client takes a while. Most often all topics exist, and one request is enough.
        let mut described = self.describe(names.clone()).await?;
        let known: HashSet<String> = described.iter().map(|topic| topic.name.clone()).collect();
        names.retain(|name| !known.contains(name));
        if !names.is_empty() {
            self.create(&names).await?;
            described.extend(self.describe_new(names).await?);
        }
        Ok(described)
    }

    /// Describes those of these topics that exist.
    ///
    /// # Errors
    /// The brokers are unreachable, or refuse to describe a topic.
    pub async fn describe(&self, names: Vec<String>) -> anyhow::Result<Vec<TopicDescription>> {
        let described = self.cluster.describe(names).await?;
        let described: Vec<TopicDescription> = described.into_iter().collect::<anyhow::Result<_>>()?;
        described.iter().for_each(|topic| self.saw(topic));
        Ok(described)
    }

    /// Describes those of these topics that exist and that the brokers describe. One that they refuse to
    /// describe, for example because a right was revoked, does not keep the others from being known.
    ///
    /// # Errors
    /// The brokers are unreachable.
    pub async fn describe_known(&self, names: Vec<String>) -> anyhow::Result<Vec<TopicDescription>> {
        let described = self.cluster.describe(names).await?;
        let known: Vec<TopicDescription> = described
            .into_iter()
            .filter_map(|described| {
                described.inspect_err(|error| tracing::debug!("cannot describe a topic: {error:#}")).ok()
            })
            .collect();
        known.iter().for_each(|topic| self.saw(topic));
        Ok(known)
    }

    /// Waits until some part of this host sees that a topic has more partitions than it had before.
    pub async fn grown(&self) {
        self.grown.notified().await;
    }

    fn saw(&self, topic: &TopicDescription) {
        let before = {
            let mut seen = self.seen.lock();
            let highest = seen.entry(topic.name.clone()).or_insert(topic.partitions);
            std::mem::replace(highest, topic.partitions.max(*highest))
        };
        if before < topic.partitions {
            tracing::info!(
                topic = topic.name,
                partitions = topic.partitions,
                "the topic has more partitions"
            );
            self.grown.notify_waiters();
        }
    }

    async fn create(&self, names: &[String]) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self
            .cluster
            .brokers()
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

    /// Describes topics that were just created: waits until the brokers know them.
    async fn describe_new(&self, names: Vec<String>) -> anyhow::Result<Vec<TopicDescription>> {
        for attempt in 1.. {
            // Until its partitions have leaders, describing a new topic can fail.
            let described = match self.describe(names.clone()).await {
                Err(_) if attempt < NEW_TOPIC_ATTEMPTS_MAX => Vec::new(),
                described => described?,
            };
            let missing = names.iter().find(|name| !described.iter().any(|topic| topic.name == **name));
            let Some(missing) = missing else { return Ok(described) };
            if attempt >= NEW_TOPIC_ATTEMPTS_MAX {
                bail!(
                    "topic {missing} does not exist and this account may not create it; create it with {} \
                     partitions",
                    self.partitions_default
                );
            }
            tokio::time::sleep(NEW_TOPIC_RETRY_PAUSE).await;
        }
        Ok(Vec::new())
    }
}
