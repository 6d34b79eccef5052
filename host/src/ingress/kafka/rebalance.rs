//! The callbacks of the Kafka client. They only note what Kafka assigns and revokes, and never wait for
//! Postgres or Kafka: the consumer's loop claims the partitions.

use std::sync::{Arc, atomic::Ordering};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext as RebalanceContext},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::{
    consumer::ConsumerContext,
    health::Part,
    offsets::{Read, Statistics, commit_all},
};
use crate::claims::partitions::TopicPartition;

/// What Kafka has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Assigned(TopicPartition),
    Revoked(TopicPartition),
}

/// Receives the callbacks.
pub(super) struct Rebalances {
    pub(super) context: ConsumerContext,
    /// Since the consumer's loop has read them last, in their order.
    changes: Mutex<Vec<Change>>,
    /// How far the partitions are read.
    pub(super) read: Mutex<Read>,
}

impl Rebalances {
    pub(super) fn new(context: ConsumerContext) -> Self {
        Self { context, changes: Mutex::default(), read: Mutex::default() }
    }

    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.changes.lock())
    }
}

impl ClientContext for Rebalances {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", plugin = self.context.backend.plugin, "{facility} {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", plugin = self.context.backend.plugin, "{error}: {reason}");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            let reason = format!("no broker of Kafka is reachable: {reason}");
            self.context.health.begin(&self.context.backend.plugin, Part::Connection, reason);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics = Statistics::parse(statistics);
        self.context.health.in_group.store(statistics.in_group(), Ordering::Release);
        self.read.lock().set_next(statistics);
    }
}

impl RebalanceContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let ConsumerContext { backend, claims, health, .. } = &self.context;
        let (plugin, places) = (&backend.plugin, places(list));
        let done = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.changes.lock().extend(places.into_iter().map(Change::Assigned));
            // None is read before it is claimed.
            consumer.incremental_assign(&TopicPartitionList::new())
        } else {
            // While Kafka is unreachable, the answer to a commit would not come.
            let connected = !health.has(|part| *part == Part::Connection);
            commit_all(consumer, claims, if connected { CommitMode::Sync } else { CommitMode::Async });
            claims.remove(&places);
            self.changes.lock().extend(places.into_iter().map(Change::Revoked));
            unassign(consumer, list)
        };
        health.end(plugin, |part| *part == Part::Group);
        if let Err(error) = done {
            tracing::error!(plugin, reason = %error, "cannot apply Kafka's new assignment of partitions");
        }
    }
}

/// Removes those of the revoked partitions that are assigned. The Kafka client refuses a list that names any
/// other partition, and a partition that is not claimed yet was never assigned.
fn unassign(consumer: &BaseConsumer<Rebalances>, revoked: &TopicPartitionList) -> KafkaResult<()> {
    consumer.incremental_unassign(&in_both(revoked, &consumer.assignment()?))
}

fn in_both(list: &TopicPartitionList, other: &TopicPartitionList) -> TopicPartitionList {
    let mut both = TopicPartitionList::with_capacity(list.count());
    for element in list.elements() {
        if other.find_partition(element.topic(), element.partition()).is_some() {
            both.add_partition(element.topic(), element.partition());
        }
    }
    both
}

fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| (Arc::from(element.topic()), element.partition())).collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::TopicPartitionList;

    use super::{in_both, places};

    fn list(partitions: &[(&str, i32)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        list
    }

    #[test]
    fn only_assigned_partitions_are_unassigned() {
        let revoked = list(&[("t", 0), ("t", 1), ("u", 0)]);
        assert_eq!(
            places(&in_both(&revoked, &list(&[("t", 1), ("u", 0), ("u", 1)]))),
            [("t".into(), 1), ("u".into(), 0)]
        );
        assert_eq!(in_both(&revoked, &list(&[])).count(), 0);
    }
}
