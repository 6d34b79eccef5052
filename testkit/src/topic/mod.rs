//! Kafka from outside: records, and the calls that the modules below share. Most calls of librdkafka block;
//! run them with [`blocking`].

pub mod change;
pub mod groups;
pub mod log_size;
pub mod reader;
pub mod writer;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Large enough for a record that the broker must refuse.
const RECORD_BYTES_MAX: &str = "8000000";

/// One record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key, if any.
    pub key: Option<Vec<u8>>,
    /// Value, `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// A header's value as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(present, _)| present == name)
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The value as text; empty for a tombstone, and for bytes that are not text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.value.as_deref().and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// The key as text.
    #[must_use]
    pub fn key_text(&self) -> Option<&str> {
        self.key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
    }
}

/// Runs a blocking Kafka call on a thread for blocking work.
///
/// # Errors
/// The call failed.
pub async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call).await.context("a Kafka call ended early")?
}

fn consumer(brokers: &str, group: &str) -> Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.message.max.bytes", RECORD_BYTES_MAX)
        .create()
        .context("a Kafka consumer")
}

/// First and next offset of every partition of a topic. Blocks.
///
/// # Errors
/// Kafka is unreachable, or the topic does not exist.
fn bounds(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64, i64)>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), CALL_TIMEOUT)
        .with_context(|| format!("partitions of {topic}"))?;
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions().iter().map(|partition| partition.id()))
        .collect();
    ensure!(!partitions.is_empty(), "topic {topic} does not exist");
    let bound = |partition| {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, CALL_TIMEOUT)
            .with_context(|| format!("bounds of {topic}/{partition}"))?;
        Ok((partition, low, high))
    };
    partitions.into_iter().map(bound).collect()
}

/// How many partitions a topic has. Blocks for a moment.
///
/// # Errors
/// Kafka is unreachable, or the topic does not exist.
pub fn partitions(brokers: &str, topic: &str) -> Result<i32> {
    let consumer = consumer(brokers, "saga-testkit")?;
    let metadata = consumer
        .fetch_metadata(Some(topic), CALL_TIMEOUT)
        .with_context(|| format!("partitions of {topic}"))?;
    let count = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
    Ok(i32::try_from(count)?)
}

/// The partition that Java clients choose for a key.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    i32::try_from(hash).unwrap_or_default() % partitions.max(1)
}

#[cfg(test)]
mod tests;
