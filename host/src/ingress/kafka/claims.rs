//! The rebalance callback: claims the partitions that Kafka assigns to this host, and gives up those that it
//! revokes. A claim raises the epoch of the partition, which fences the host that had it before.

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

/// The pause before a partition that could not be claimed is tried again.
const RETRY_CLAIM: Duration = Duration::from_millis(500);

/// Receives the callbacks of the Kafka client.
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

/// Removes those of the revoked partitions that are assigned. The Kafka client refuses a list that names any
/// other partition, and a partition that [`Claims::claim`] did not accept was never assigned.
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
    /// Claims the assigned partitions, each until it succeeds or the host stops. Returns those that can be
    /// read, each with its position.
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

    /// Claims a partition. None when its position is outside of the offsets that Kafka has: then nobody knows
    /// which records are missing, so the host does not read it and reports the error.
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
                "{}/{} is not read: the next offset of this plugin is {}, but Kafka has the offsets from \
                 {low} to {high}. The topic was deleted and created again, or its retention deleted records \
                 that the plugin had not read. To continue from {low}, run UPDATE saga.partition_claim SET \
                 next_offset = {low} WHERE id = {} in the database {}, then restart the host",
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

    /// Removes the claims of partitions that Kafka has revoked, and the errors reported for them.
    pub(super) fn forget(&self, places: &[TopicPartition]) {
        self.context.claims.remove(places);
        let mut stopped = self.context.health.stopped.lock();
        for place in places {
            stopped.remove(place);
        }
    }
}

/// Commits the positions to Kafka, so that other tools can show the consumer lag.
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
        tracing::debug!(
            reason = %error,
            "cannot commit offsets to Kafka: tools show too high a consumer lag until the next commit"
        );
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
