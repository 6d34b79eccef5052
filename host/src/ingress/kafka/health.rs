//! What the host API shows of a consumer. Each trouble is logged when it begins and when it ends.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, AtomicU64},
};

use parking_lot::Mutex;

use crate::claims::partitions::TopicPartition;

/// What a trouble is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The connection to the brokers.
    Connection,
    /// The consumer group.
    Group,
    /// Records that the Kafka client cannot read; not known yet of which partition.
    Records,
    /// A partition whose records the Kafka client cannot read.
    Unreadable(TopicPartition),
    /// A partition that is assigned and not claimed.
    Unclaimed(TopicPartition),
}

impl Part {
    /// Troubles of one kind share their log line: an outage concerns all partitions.
    fn is_same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection to Kafka",
            Self::Group => "consumer group",
            Self::Records | Self::Unreadable(_) => "records of Kafka",
            Self::Unclaimed(_) => "claims of partitions",
        })
    }
}

/// What the host API shows of a consumer.
#[derive(Debug, Default)]
pub struct ConsumerHealth {
    troubles: Mutex<BTreeMap<Part, String>>,
    /// Whether the consumer is a member of its group, and the group is not rebalancing.
    pub(super) in_group: AtomicBool,
    /// Deliveries that a relay of this host has handed over.
    pub handed_over: AtomicU64,
}

impl ConsumerHealth {
    /// What does not work, and why.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.troubles.lock().values().cloned().collect()
    }

    /// Whether a part does not work for which this is true.
    pub(super) fn has(&self, is: impl Fn(&Part) -> bool) -> bool {
        self.troubles.lock().keys().any(is)
    }

    /// A part does not work. The host retries.
    pub(super) fn begin(&self, plugin: &str, part: Part, reason: String) {
        let mut troubles = self.troubles.lock();
        if troubles.get(&part) == Some(&reason) {
            return;
        }
        let is_new = !troubles.keys().any(|other| other.is_same_kind(&part));
        if is_new {
            tracing::warn!(plugin, reason, "trouble with the {part}, retrying");
        } else {
            tracing::debug!(plugin, reason, "trouble with the {part}, retrying");
        }
        troubles.insert(part, reason);
    }

    /// The parts for which this is true work again.
    pub(super) fn end(&self, plugin: &str, is: impl Fn(&Part) -> bool) {
        let mut troubles = self.troubles.lock();
        let ended: Vec<Part> = troubles.keys().filter(|part| is(part)).cloned().collect();
        for part in ended {
            troubles.remove(&part);
            if !troubles.keys().any(|other| other.to_string() == part.to_string()) {
                tracing::info!(plugin, "the trouble with the {part} has ended");
            }
        }
    }

    /// The consumer starts again: nothing is known to be wrong.
    pub(super) fn clear(&self, plugin: &str) {
        self.end(plugin, |_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::{ConsumerHealth, Part};

    #[test]
    fn a_trouble_is_shown_until_it_ends() {
        let health = ConsumerHealth::default();
        let partition = |number| Part::Unclaimed(("t".into(), number));
        health.begin("p", Part::Connection, "no broker answers".to_owned());
        health.begin("p", partition(0), "t/0 is not read".to_owned());
        health.begin("p", partition(1), "t/1 is not read".to_owned());
        health.begin("p", partition(1), "t/1 is still not read".to_owned());
        assert_eq!(health.reasons(), ["no broker answers", "t/0 is not read", "t/1 is still not read"]);
        health.end("p", |part| *part == partition(0));
        assert!(health.has(|part| *part == partition(1)));
        health.end("p", |part| *part == Part::Connection);
        assert_eq!(health.reasons(), ["t/1 is still not read"]);
        health.clear("p");
        assert!(health.reasons().is_empty());
    }
}
