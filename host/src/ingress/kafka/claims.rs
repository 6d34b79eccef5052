//! Claims partitions when Kafka assigns them, under an epoch that fences their previous owner, and gives them
//! up when Kafka revokes them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer as _, ConsumerContext as RebalanceContext, RebalanceProtocol,
    },
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::runtime::Handle;

use super::{
    consumer::{ConsumerContext, SEEK_WITHIN},
    start,
};
use crate::claims::{
    partition::{PartitionClaim, claim_partition, set_first_offset},
    partitions::{PartitionClaims, TopicPartition},
};

const RETRY_CLAIM: Duration = Duration::from_millis(500);

/// Claims what Kafka assigns, and gives up what it revokes.
pub(super) struct Claims {
    pub(super) context: ConsumerContext,
    pub(super) runtime: Handle,
}

impl ClientContext for Claims {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(plugin = self.context.backend.plugin, "Kafka client error: {error}: {reason}");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.context.health.trouble.lock() = Some(reason.to_owned());
        }
    }
}

impl RebalanceContext for Claims {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let claimed = self.claim_all(consumer, list);
            self.context.health.assigned.store(true, Ordering::Release);
            if cooperative { consumer.incremental_assign(&claimed) } else { consumer.assign(&claimed) }
        } else {
            commit(consumer, &self.context.claims, CommitMode::Sync);
            self.forget(&places(list));
            if cooperative { unassign(consumer, list) } else { consumer.unassign() }
        };
        if let Err(error) = done {
            let plugin = &self.context.backend.plugin;
            tracing::error!(plugin, reason = %error, "cannot apply Kafka's new assignment of partitions");
        }
    }
}

/// Kafka's client refuses the whole list when it names a partition that is not assigned. A stopped partition
/// never was.
fn unassign(consumer: &BaseConsumer<Claims>, revoked: &TopicPartitionList) -> KafkaResult<()> {
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

pub(super) fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| (Arc::from(element.topic()), element.partition())).collect()
}

impl Claims {
    /// Claims what was assigned. Returns the partitions that can be read, each with its position.
    fn claim_all(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> TopicPartitionList {
        let mut claimed = TopicPartitionList::with_capacity(list.count());
        for place in places(list) {
            while !self.context.stop.is_cancelled() {
                match self.claim(consumer, &place) {
                    Ok(Some(claim)) => {
                        let added = claimed.add_partition_offset(
                            &place.0,
                            place.1,
                            Offset::Offset(claim.next_offset),
                        );
                        debug_assert!(added.is_ok(), "an offset is never negative");
                        self.context.claims.insert(claim);
                        break;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(plugin = self.context.backend.plugin, "{error:#}");
                        std::thread::sleep(RETRY_CLAIM);
                    }
                }
            }
        }
        claimed
    }

    /// Claims a partition; none when it must not be read.
    pub(super) fn claim(
        &self,
        consumer: &BaseConsumer<Self>,
        place: &TopicPartition,
    ) -> anyhow::Result<Option<PartitionClaim>> {
        let ConsumerContext { backend, versions, health, .. } = &self.context;
        let claim = claim_partition(&backend.database, &backend.role, &place.0, place.1);
        let mut claim: PartitionClaim = self.runtime.block_on(claim)?;
        let (low, high) = consumer.fetch_watermarks(&place.0, place.1, SEEK_WITHIN).with_context(|| {
            format!("reading the first and last offset of {}/{} from Kafka", place.0, place.1)
        })?;
        if claim.next_offset < 0 {
            let policy = &versions.active().version.policy.clone();
            let first = start::first_offset(&self.context.brokers, &policy.kafka.start, place, (low, high))?;
            self.runtime.block_on(set_first_offset(&backend.database.admin, &mut claim, first))?;
        }
        if claim.next_offset < low || claim.next_offset > high {
            let reason = format!(
                "{}/{} is not read: the position of this plugin is {}, but Kafka has {low} to {high}; the \
                 topic was created again, or its retention deleted records. To continue from {low}: UPDATE \
                 saga.partition_claim SET next_offset = {low} WHERE id = {} in database {}, then start the \
                 host again",
                place.0, place.1, claim.next_offset, claim.id, backend.database.name
            );
            tracing::error!(plugin = backend.plugin, "{reason}");
            health.stopped.lock().insert(place.clone(), reason);
            return Ok(None);
        }
        health.stopped.lock().remove(place);
        let offset = claim.next_offset;
        tracing::debug!(
            plugin = backend.plugin,
            topic = &*place.0,
            partition = place.1,
            offset,
            "partition claimed"
        );
        Ok(Some(claim))
    }

    pub(super) fn forget(&self, places: &[TopicPartition]) {
        self.context.claims.remove(places);
        let mut stopped = self.context.health.stopped.lock();
        for place in places {
            stopped.remove(place);
        }
    }
}

/// Commits the read positions to Kafka. The offsets only serve displays of consumer lag.
pub(super) fn commit(consumer: &BaseConsumer<Claims>, claims: &PartitionClaims, mode: CommitMode) {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in claims.positions() {
        let added = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
        debug_assert!(added.is_ok(), "an offset is never negative");
    }
    if list.count() == 0 {
        return;
    }
    if let Err(error) = consumer.commit(&list, mode) {
        tracing::debug!(reason = %error, "cannot commit offsets to Kafka; displays of lag may be late");
    }
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
