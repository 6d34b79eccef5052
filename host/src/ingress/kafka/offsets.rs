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

use super::rebalance::Rebalances;
use crate::claims::partitions::{PartitionClaims, TopicPartition};

/// The interval in which positions that have changed are committed to Kafka.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// The interval in which positions are committed even if none has changed: Kafka rejects a commit during a
/// rebalance, and librdkafka does not report the rejection.
const COMMIT_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// Offsets by partition.
type Offsets = HashMap<TopicPartition, i64>;

/// Where the Kafka client has read everything that it has fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadEnd {
    /// The offset behind the last record that the host got.
    got: i64,
    /// The offset that the client fetches next. There are no records between the two.
    next: i64,
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
    app_offset: i64,
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

    /// The ends of all partitions; none where records wait in the client.
    pub(super) fn read_ends(self) -> HashMap<TopicPartition, ReadEnd> {
        let mut ends = HashMap::new();
        for (topic, TopicStatistics { partitions }) in self.topics {
            let topic: Arc<str> = topic.into();
            for (partition, PartitionStatistics { fetchq_cnt, app_offset, next_offset }) in partitions {
                if partition >= 0 && fetchq_cnt == 0 && next_offset >= 0 {
                    let end = ReadEnd { got: app_offset, next: next_offset };
                    ends.insert((topic.clone(), partition), end);
                }
            }
        }
        ends
    }
}

/// The offset to commit for a partition whose next record is at `position`.
fn offset_of(position: i64, end: Option<&ReadEnd>) -> i64 {
    end.filter(|end| position >= end.got).map_or(position, |end| position.max(end.next))
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
    let ends = rebalances.ends.lock();
    let positions = claims.positions().into_iter();
    let offset = |(topic, partition, position)| {
        let place = (topic, partition);
        let offset = offset_of(position, ends.get(&place));
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
    use super::{ReadEnd, Statistics, offset_of};

    #[test]
    fn what_the_client_has_passed_over_counts_once_all_before_it_is_handled() {
        let end = Some(ReadEnd { got: 10, next: 11 });
        for (position, end, expected) in [
            (10, end, 11),
            (9, end, 9),
            (12, end, 12),
            (10, None, 10),
            (10, Some(ReadEnd { got: -1001, next: 11 }), 11),
        ] {
            assert_eq!(offset_of(position, end.as_ref()), expected, "{position} {end:?}");
        }
    }

    #[test]
    fn ends_are_read_from_statistics() {
        let statistics = br#"{"name":"x","topics":{"t":{"age":3,"partitions":{
            "0":{"partition":0,"fetchq_cnt":0,"app_offset":10,"next_offset":11,"hi_offset":11},
            "1":{"partition":1,"fetchq_cnt":2,"app_offset":10,"next_offset":12},
            "-1":{"partition":-1,"fetchq_cnt":0,"app_offset":-1001,"next_offset":-1001}}}},
            "cgrp":{"state":"up","join_state":"steady"}}"#;
        let read = Statistics::parse(statistics);
        assert!(read.in_group());
        let ends = read.read_ends();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends.get(&("t".into(), 0)), Some(&ReadEnd { got: 10, next: 11 }));
        let nothing = Statistics::parse(b"");
        assert!(!nothing.in_group() && nothing.read_ends().is_empty());
    }
}
