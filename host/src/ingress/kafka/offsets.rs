//! Commits offsets to Kafka, so that other tools can show the consumer lag. The host never reads its position
//! from there.
//!
//! A transaction ends with a record for Kafka's clients alone, which no plugin handles. When all that came
//! before it is handled, the offset behind it is committed: otherwise the lag would stay at 1.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use serde::Deserialize;

use super::{burst::ReadUpTo, rebalance::Rebalances};
use crate::claims::partitions::{PartitionClaims, TopicPartition};

/// The interval in which positions that have changed are committed to Kafka.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// The interval in which positions are committed even if none has changed: Kafka rejects a commit during a
/// rebalance, and librdkafka does not report the rejection.
const COMMIT_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// Offsets by partition.
type Offsets = HashMap<TopicPartition, i64>;

/// How far the partitions of a consumer are read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The offset behind the last record that went to the lane since the partition was claimed.
    delivered: Offsets,
    /// The offset that the Kafka client fetches next, where no records wait in the client.
    next: Offsets,
}

impl Read {
    /// A partition is claimed, and read from its position.
    pub(super) fn claimed(&mut self, place: &TopicPartition) {
        self.delivered.remove(place);
        self.next.remove(place);
    }

    /// The records of a burst go to the lane.
    pub(super) fn deliver(&mut self, burst: &[ReadUpTo]) {
        self.delivered.extend(burst.iter().map(|read| (read.place.clone(), read.next_offset)));
    }

    /// The Kafka client has reported how far it is.
    pub(super) fn set_next(&mut self, statistics: Statistics) {
        self.next = statistics.next_offsets();
    }

    /// The offset to commit for a partition whose next record is at `position`: when all that was delivered is
    /// handled, that up to which the client has found nothing else.
    fn offset(&self, place: &TopicPartition, position: i64) -> i64 {
        let handled = self.delivered.get(place).is_none_or(|delivered| position >= *delivered);
        let next = self.next.get(place).copied().filter(|_| handled);
        next.map_or(position, |next| position.max(next))
    }
}

/// The part of librdkafka's statistics that the host reads.
#[derive(Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
    #[serde(default)]
    cgrp: GroupStatistics,
}

#[derive(Default, Deserialize)]
struct GroupStatistics {
    #[serde(default)]
    state: String,
    #[serde(default)]
    join_state: String,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<i32, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    fetchq_cnt: i64,
    next_offset: i64,
}

impl Statistics {
    pub(super) fn parse(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// Whether the consumer is a member of its group, and the group is not rebalancing.
    pub(super) fn in_group(&self) -> bool {
        self.cgrp.state == "up" && self.cgrp.join_state == "steady"
    }

    /// The offset that the client fetches next in each partition; none where records wait in the client.
    fn next_offsets(self) -> Offsets {
        let mut offsets = Offsets::new();
        for (topic, TopicStatistics { partitions }) in self.topics {
            let topic: Arc<str> = topic.into();
            let read =
                partitions.into_iter().filter(|(partition, read)| *partition >= 0 && read.fetchq_cnt == 0);
            offsets.extend(read.map(|(partition, read)| ((topic.clone(), partition), read.next_offset)));
        }
        offsets
    }
}

/// What was committed last, and when the next commit is due.
#[derive(Debug)]
pub(super) struct Commits {
    committed: Offsets,
    due_at: Instant,
    again_at: Instant,
}

impl Commits {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { committed: HashMap::new(), due_at: now, again_at: now }
    }

    /// Commits what has changed, when it is due.
    pub(super) fn commit_due(&mut self, consumer: &BaseConsumer<Rebalances>, claims: &PartitionClaims) {
        let now = Instant::now();
        if now < self.due_at {
            return;
        }
        self.due_at = now + COMMIT_EVERY;
        let offsets = offsets(consumer.context(), claims);
        if offsets != self.committed || now >= self.again_at {
            commit(consumer, &offsets, CommitMode::Async);
            self.committed = offsets;
            self.again_at = now + COMMIT_AGAIN_EVERY;
        }
    }
}

/// Commits the offsets of all claims now.
pub(super) fn commit_all(consumer: &BaseConsumer<Rebalances>, claims: &PartitionClaims, mode: CommitMode) {
    commit(consumer, &offsets(consumer.context(), claims), mode);
}

fn offsets(rebalances: &Rebalances, claims: &PartitionClaims) -> Offsets {
    let read = rebalances.read.lock();
    let positions = claims.positions().into_iter();
    let offset = |(topic, partition, position)| {
        let place = (topic, partition);
        let offset = read.offset(&place, position);
        (place, offset)
    };
    positions.map(offset).collect()
}

fn commit(consumer: &BaseConsumer<Rebalances>, offsets: &Offsets, mode: CommitMode) {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for ((topic, partition), offset) in offsets {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
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
    use std::sync::Arc;

    use super::{Read, ReadUpTo, Statistics};
    use crate::model::delivery::{Delivery, Origin};

    const STATISTICS: &[u8] = br#"{"name":"x","topics":{"t":{"age":3,"partitions":{
        "0":{"partition":0,"fetchq_cnt":0,"app_offset":11,"next_offset":11,"hi_offset":11},
        "1":{"partition":1,"fetchq_cnt":2,"app_offset":10,"next_offset":12},
        "2":{"partition":2,"fetchq_cnt":0,"app_offset":-1001,"next_offset":3},
        "-1":{"partition":-1,"fetchq_cnt":0,"app_offset":-1001,"next_offset":-1001}}}},
        "cgrp":{"state":"up","join_state":"steady"}}"#;

    fn delivered(partition: i32, offset: i64) -> (Delivery, usize) {
        (Delivery::bare(Origin::Kafka { topic: "t".into(), partition, offset }, 0), 1)
    }

    #[test]
    fn what_the_client_has_passed_over_counts_once_all_before_it_is_handled() {
        let mut read = Read::default();
        read.deliver(&ReadUpTo::of(&[delivered(0, 8), delivered(0, 9), delivered(1, 9), delivered(0, 9)]));
        read.set_next(Statistics::parse(STATISTICS));
        for (partition, position, expected) in [
            (0, 10, 11),
            (0, 9, 9),
            (0, 12, 12),
            // Records wait in the client.
            (1, 10, 10),
            // Nothing was delivered since the claim.
            (2, 2, 3),
            (3, 7, 7),
        ] {
            let place = (Arc::from("t"), partition);
            assert_eq!(read.offset(&place, position), expected, "{partition} at {position}");
        }
        read.claimed(&(Arc::from("t"), 0));
        assert_eq!(read.offset(&(Arc::from("t"), 0), 9), 9, "the client starts again");
    }

    #[test]
    fn the_group_is_steady_or_not() {
        assert!(Statistics::parse(STATISTICS).in_group());
        let nothing = Statistics::parse(b"");
        assert!(!nothing.in_group() && nothing.next_offsets().is_empty());
    }
}
