//! How far the plugins' consumer groups are behind.

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{CALL_TIMEOUT, bounds, consumer};
use crate::service::{SERVICES, Service};

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
        let one = |service: &Service| Ok((service.plugin, consumer(brokers, service.plugin)?, service.consumes));
        Ok(Self { consumers: SERVICES.iter().map(one).collect::<Result<_>>()? })
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
                    let at = committed.find_partition(topic, partition).map(|element| element.offset());
                    let at = if let Some(Offset::Offset(at)) = at { at } else { low };
                    if high > at {
                        behind.push((*plugin, *topic, partition, high - at));
                    }
                }
            }
        }
        Ok(behind)
    }
}
