//! Kafka from outside: an independent reader of whole topics, the lag of the plugins' groups, and a producer of records as
//! other services write them. The calls of the reader block; run them by [`blocking`].

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::service::SERVICES;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(15);
/// Large enough for the record that the broker itself is to refuse.
const RECORD_BYTES_MAX: &str = "8000000";

/// One record as it stands in its topic.
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
                .map(|header| {
                    (
                        header.key.to_owned(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                })
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

    /// The value as text, empty for a tombstone and for bytes that are no text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.value
            .as_deref()
            .and_then(|value| std::str::from_utf8(value).ok())
            .unwrap_or_default()
    }

    /// The key as text.
    #[must_use]
    pub fn key_text(&self) -> Option<&str> {
        self.key
            .as_deref()
            .and_then(|key| std::str::from_utf8(key).ok())
    }
}

/// Runs a blocking Kafka call beside the runtime.
///
/// # Errors
/// Those of the call.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call)
        .await
        .context("a Kafka call ended early")?
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
/// Kafka is away, or the topic does not exist.
pub fn bounds(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64, i64)>> {
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

/// The ends of the topics now: where [`read_from`] may begin later. Blocks.
///
/// # Errors
/// As [`bounds`].
pub fn ends(brokers: &str, topics: &[&str]) -> Result<Vec<(String, i32, i64)>> {
    let consumer = consumer(brokers, "saga-bench")?;
    let mut ends = Vec::new();
    for topic in topics {
        ends.extend(
            bounds(&consumer, topic)?
                .into_iter()
                .map(|(partition, _, high)| ((*topic).to_owned(), partition, high)),
        );
    }
    Ok(ends)
}

/// Reads whole topics, from their first record to what was the last when the call began; in order per partition. Blocks.
///
/// # Errors
/// Kafka is away, or sends nothing for 15 s.
pub fn read_all(brokers: &str, topics: &[&str], each: impl FnMut(Record)) -> Result<u64> {
    let consumer = consumer(brokers, "saga-bench")?;
    let mut starts = Vec::new();
    for topic in topics {
        starts.extend(
            bounds(&consumer, topic)?
                .into_iter()
                .map(|(partition, low, _)| ((*topic).to_owned(), partition, low)),
        );
    }
    drop(consumer);
    read_from(brokers, &starts, each)
}

/// Reads partitions from a position to their end as it is when the call begins. Blocks.
///
/// # Errors
/// As [`read_all`].
pub fn read_from(
    brokers: &str,
    starts: &[(String, i32, i64)],
    mut each: impl FnMut(Record),
) -> Result<u64> {
    let consumer = consumer(brokers, "saga-bench")?;
    let mut assignment = TopicPartitionList::new();
    let mut left = std::collections::HashMap::new();
    for (topic, partition, from) in starts {
        let (_, high) = consumer.fetch_watermarks(topic, *partition, CALL_TIMEOUT)?;
        if high > *from {
            assignment.add_partition_offset(topic, *partition, Offset::Offset(*from))?;
            left.insert((topic.clone(), *partition), high);
        }
    }
    consumer
        .assign(&assignment)
        .context("assign the partitions")?;
    let (mut read, mut heard) = (0, Instant::now());
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let place = (message.topic().to_owned(), message.partition());
                let Some(high) = left.get(&place).copied() else {
                    continue;
                };
                if message.offset() + 1 >= high {
                    left.remove(&place);
                }
                if message.offset() < high {
                    read += 1;
                    each(Record::of(&message));
                }
            }
            Some(Err(error)) if heard.elapsed() > SILENCE => {
                return Err(error).context("read the topics");
            }
            _ => ensure!(
                heard.elapsed() < SILENCE,
                "Kafka sent nothing for {} s; unread: {left:?}",
                SILENCE.as_secs()
            ),
        }
    }
    Ok(read)
}

/// The lag of every plugin's group, by the offsets it has committed.
pub struct Groups {
    consumers: Vec<(&'static str, BaseConsumer, &'static [&'static str])>,
}

impl Groups {
    /// Prepares to ask for the groups of the five plugins.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(brokers: &str) -> Result<Self> {
        let one = |service: &crate::service::Service| {
            Ok((
                service.plugin,
                consumer(brokers, service.plugin)?,
                service.consumes,
            ))
        };
        Ok(Self {
            consumers: SERVICES.iter().map(one).collect::<Result<_>>()?,
        })
    }

    /// `(plugin, topic, partition, records behind)`, only where some are. Blocks.
    ///
    /// # Errors
    /// Kafka is away.
    pub fn lag(&self) -> Result<Vec<(&'static str, &'static str, i32, i64)>> {
        let mut behind = Vec::new();
        for (plugin, consumer, topics) in &self.consumers {
            for topic in *topics {
                let bounds = bounds(consumer, topic)?;
                let mut asked = TopicPartitionList::new();
                bounds.iter().for_each(|(partition, ..)| {
                    asked.add_partition(topic, *partition);
                });
                let committed = consumer
                    .committed_offsets(asked, CALL_TIMEOUT)
                    .with_context(|| format!("committed offsets of {plugin}"))?;
                for (partition, low, high) in bounds {
                    let at = committed
                        .find_partition(topic, partition)
                        .map(|element| element.offset());
                    let at = if let Some(Offset::Offset(at)) = at {
                        at
                    } else {
                        low
                    };
                    if high > at {
                        behind.push((*plugin, *topic, partition, high - at));
                    }
                }
            }
        }
        Ok(behind)
    }
}

/// Writes records as foreign services do.
pub struct Writer {
    producer: FutureProducer,
}

/// A record to write; nothing but the value unless said.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Key.
    pub key: Option<String>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Partition instead of the partitioner's.
    pub partition: Option<i32>,
    /// Milliseconds since 1970 instead of now.
    pub timestamp_ms: Option<i64>,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

impl Draft {
    /// A record of this text alone.
    pub fn text(value: impl Into<String>) -> Self {
        Self {
            value: Some(value.into().into_bytes()),
            ..Self::default()
        }
    }
}

impl Writer {
    /// A producer.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(brokers: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("linger.ms", "0")
            .create()
            .context("a Kafka producer")?;
        Ok(Self { producer })
    }

    /// Writes one record; gives its partition and offset.
    ///
    /// # Errors
    /// Kafka refuses it or is away.
    pub async fn write(&self, topic: &str, draft: &Draft) -> Result<(i32, i64)> {
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(topic);
        record.key = draft.key.as_deref();
        record.payload = draft.value.as_deref();
        record.partition = draft.partition;
        record.timestamp = draft.timestamp_ms;
        if !draft.headers.is_empty() {
            let add = |headers: OwnedHeaders, (key, value): &(String, String)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            };
            record.headers = Some(draft.headers.iter().fold(OwnedHeaders::new(), add));
        }
        let delivery = self
            .producer
            .send(record, CALL_TIMEOUT)
            .await
            .map_err(|(error, _)| error)
            .with_context(|| format!("write to {topic}"))?;
        Ok((delivery.partition, delivery.offset))
    }
}

/// The partition that Java clients choose for a key.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    i32::try_from(hash).unwrap_or_default() % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    /// Values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn partitions_are_those_of_java_clients() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
        ] {
            assert_eq!(
                partition_of(key.as_bytes(), 1000),
                (hash & 0x7fff_ffff) % 1000,
                "{key}"
            );
        }
    }
}
