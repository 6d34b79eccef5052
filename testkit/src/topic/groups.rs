//! The consumer groups of the plugins: their lag and their members.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::groups::GroupMemberInfo;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, blocking, bounds, consumer};
use crate::service::SERVICES;

const POLL: Duration = Duration::from_millis(200);

/// A client for the lag of every group, by committed offsets.
pub struct Groups {
    consumers: Vec<(String, BaseConsumer, Vec<String>)>,
}

impl Groups {
    /// Creates the clients for the groups of the five services.
    ///
    /// # Errors
    /// A client cannot be created.
    pub fn new(brokers: &str) -> Result<Self> {
        Self::of(brokers, SERVICES.iter().map(|service| (service.plugin, service.consumes)))
    }

    /// The same for these plugins and the topics that each consumes.
    ///
    /// # Errors
    /// A client cannot be created.
    pub fn of<'a, T: AsRef<str> + 'a>(
        brokers: &str,
        plugins: impl Iterator<Item = (&'a str, &'a [T])>,
    ) -> Result<Self> {
        let one = |(plugin, topics): (&str, &[T])| {
            let topics = topics.iter().map(|topic| topic.as_ref().to_owned()).collect();
            Ok((plugin.to_owned(), consumer(brokers, plugin)?, topics))
        };
        Ok(Self { consumers: plugins.map(one).collect::<Result<_>>()? })
    }

    /// `(plugin, topic, partition, records behind)` of each partition with a lag. Blocks.
    ///
    /// # Errors
    /// Kafka is unreachable.
    pub fn lag(&self) -> Result<Vec<(&str, &str, i32, i64)>> {
        let mut behind = Vec::new();
        for (plugin, consumer, topics) in &self.consumers {
            for topic in topics {
                let bounds = bounds(consumer, topic)?;
                let mut offsets = TopicPartitionList::new();
                bounds.iter().for_each(|(partition, ..)| {
                    offsets.add_partition(topic, *partition);
                });
                let committed = consumer
                    .committed_offsets(offsets, CALL_TIMEOUT)
                    .with_context(|| format!("committed offsets of {plugin}"))?;
                for (partition, low, high) in bounds {
                    let at = committed.find_partition(topic, partition).map(|element| element.offset());
                    let at = if let Some(Offset::Offset(at)) = at { at } else { low };
                    if high > at {
                        behind.push((plugin.as_str(), topic.as_str(), partition, high - at));
                    }
                }
            }
        }
        Ok(behind)
    }
}

/// Waits until the group of each of the five services has `members` members, each with partitions.
///
/// # Errors
/// That takes longer than `limit`, or Kafka does not answer.
pub async fn shared(brokers: &str, members: usize, limit: Duration) -> Result<()> {
    shared_by(brokers, SERVICES.iter().map(|service| service.plugin), members, limit).await
}

/// The same for these groups.
///
/// # Errors
/// As [`shared`].
pub async fn shared_by(
    brokers: &str,
    groups: impl Iterator<Item = &str>,
    members: usize,
    limit: Duration,
) -> Result<()> {
    let (brokers, groups) = (brokers.to_owned(), groups.map(str::to_owned).collect::<Vec<_>>());
    blocking(move || {
        let client = consumer(&brokers, "saga-testkit")?;
        let began = Instant::now();
        while let Some(other) = otherwise(&client, &groups, members)? {
            ensure!(began.elapsed() < limit, "{other}, after {} s", limit.as_secs());
            std::thread::sleep(POLL);
        }
        Ok(())
    })
    .await
}

/// The first group with other members, and which ones it has.
fn otherwise(client: &BaseConsumer, groups: &[String], members: usize) -> Result<Option<String>> {
    for name in groups {
        let list = client.fetch_group_list(Some(name), CALL_TIMEOUT)?;
        let group = list.groups().iter().find(|group| group.name() == name);
        let have: Vec<bool> =
            group.into_iter().flat_map(|group| group.members()).map(has_partitions).collect();
        if have != vec![true; members] {
            return Ok(Some(format!("{name}: not {members} members with partitions, but {have:?}")));
        }
    }
    Ok(None)
}

/// An assignment is a version in two bytes, the number of topics in four, and the topics.
/// <https://github.com/apache/kafka/blob/4.0.0/clients/src/main/resources/common/message/ConsumerProtocolAssignment.json>
fn has_partitions(member: &GroupMemberInfo) -> bool {
    let topics = member.assignment().and_then(|assignment| assignment.get(2..6));
    topics.is_some_and(|topics| topics != [0; 4])
}
