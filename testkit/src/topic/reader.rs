//! Reads topics record by record with a consumer of its own, outside any group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, Record, bounds, consumer};

const SILENCE: Duration = Duration::from_secs(15);
const GROUP: &str = "saga-testkit";

/// The ends of the topics now: positions for a later [`read_from`]. Blocks.
///
/// # Errors
/// Kafka is unreachable, or a topic does not exist.
pub fn ends(brokers: &str, topics: &[&str]) -> Result<Vec<(String, i32, i64)>> {
    let consumer = consumer(brokers, GROUP)?;
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

/// Reads whole topics, up to the records that were the last when the call started, in order per partition.
/// Blocks.
///
/// # Errors
/// Kafka is unreachable, or sends nothing for 15 s.
pub fn read_all(brokers: &str, topics: &[&str], each: impl FnMut(Record)) -> Result<u64> {
    let consumer = consumer(brokers, GROUP)?;
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

/// Reads partitions from a position to the end that they had when the call started. Blocks.
///
/// # Errors
/// As [`read_all`].
pub fn read_from(brokers: &str, starts: &[(String, i32, i64)], mut each: impl FnMut(Record)) -> Result<u64> {
    let consumer = consumer(brokers, GROUP)?;
    let mut assignment = TopicPartitionList::new();
    let mut left = HashMap::new();
    for (topic, partition, from) in starts {
        let (_, high) = consumer.fetch_watermarks(topic, *partition, CALL_TIMEOUT)?;
        if high > *from {
            assignment.add_partition_offset(topic, *partition, Offset::Offset(*from))?;
            left.insert((topic.clone(), *partition), high);
        }
    }
    consumer.assign(&assignment).context("assign the partitions")?;
    let (mut read, mut received_at) = (0, Instant::now());
    while !left.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                received_at = Instant::now();
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
            Some(Err(error)) if received_at.elapsed() > SILENCE => {
                return Err(error).context("read the topics");
            }
            _ => ensure!(
                received_at.elapsed() < SILENCE,
                "Kafka sent nothing for {} s; unread: {left:?}",
                SILENCE.as_secs()
            ),
        }
    }
    Ok(read)
}
