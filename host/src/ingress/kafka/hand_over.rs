//! Takes the records that relays of this host hand over, and passes them to the lane as deliveries.
//!
//! A record that was handed over becomes the same delivery as the one that Kafka brings, but for the offset,
//! which nobody knows yet.

mod joining;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use self::joining::{Joining, Source, Step};
use super::{
    burst::ReadUpTo,
    consumer::ConsumerContext,
    record::{RawRecord, delivery},
};
use crate::{
    claims::partitions::TopicPartition,
    fault_point,
    model::{
        delivery::{Delivery, OFFSET_UNKNOWN},
        identity::Identity,
        manifest::Subscription,
        record::Record,
    },
    relay::hand_over::{Receiver, Sent},
};

/// The bytes that are kept for one partition until it is joined. With more, a later record is the first one.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// With more bytes in its queue, a lane is behind, and reads from Kafka what it is ready for: to hand over to it
/// would only fill the memory.
const QUEUED_BYTES_MAX: usize = 2 << 20;

/// The consumer of one plugin, to which relays hand records over.
#[derive(Debug)]
pub(super) struct HandedOver {
    context: ConsumerContext,
    topics: Mutex<HashMap<String, Topic>>,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    partitions: HashMap<i32, Joining<Delivery>>,
    /// Whose records are handed over.
    identity: Option<Identity>,
    /// Whether somebody else writes to it.
    has_other_writer: bool,
}

impl HandedOver {
    pub(super) fn new(context: ConsumerContext) -> Self {
        Self { context, topics: Mutex::default() }
    }

    /// The topics that the consumer reads from now on.
    pub(super) fn set_topics(&self, names: &HashMap<String, Arc<str>>) {
        let mut topics = self.topics.lock();
        topics.retain(|topic, _| names.contains_key(topic));
        for (topic, name) in names {
            topics.entry(topic.clone()).or_insert_with(|| Topic {
                name: name.clone(),
                partitions: HashMap::new(),
                identity: None,
                has_other_writer: false,
            });
        }
    }

    /// A partition is claimed, and read from `offset` on.
    pub(super) fn claimed(&self, place: &TopicPartition, claim_epoch: i64, offset: i64) {
        let mut topics = self.topics.lock();
        if let Some(topic) = topics.get_mut(&*place.0) {
            let mut fresh = Joining::default();
            fresh.read(claim_epoch, offset);
            topic.partitions.insert(place.1, fresh);
        }
    }

    /// These records, read from Kafka, are in the lane's queue now. Returns whether all of them were handed over
    /// before.
    pub(super) fn read(&self, burst: &[ReadUpTo]) -> bool {
        let mut topics = self.topics.lock();
        let mut only_repeats = true;
        for read in burst {
            only_repeats &= topics.get_mut(&*read.place.0).is_some_and(|topic| self.read_in(topic, read));
        }
        only_repeats
    }

    /// Returns whether the partition was joined before.
    fn read_in(&self, topic: &mut Topic, read: &ReadUpTo) -> bool {
        let Some(joining) = topic.partitions.get_mut(&read.place.1) else { return false };
        let joined_at = joining.joined_at();
        if let Some(kept) = joining.read(read.claim_epoch, read.next_offset)
            && !self.deliver(kept)
        {
            joining.leave();
        }
        let Some(joined_at) = joined_at else { return false };
        let mut others = read.writers.iter().filter(|(writer, _)| *writer != topic.identity);
        if let Some((_, offset)) = others.find(|(_, offset)| *offset >= joined_at) {
            topic.has_other_writer = true;
            topic.partitions.values_mut().for_each(Joining::leave);
            tracing::warn!(
                plugin = self.context.backend.plugin,
                topic = &*read.place.0,
                partition = read.place.1,
                offset,
                "this record is not from the database that a policy names as the one writer of the topic: its \
                 records are not handed over any more until the host restarts; remove the topic from \
                 sole_writer, or stop the other writer"
            );
        }
        true
    }

    /// False when the lane is behind, or stops.
    fn deliver(&self, deliveries: Vec<(Delivery, usize)>) -> bool {
        let handed_over = |(delivery, bytes)| {
            let is_behind = self.context.queue.bytes() >= QUEUED_BYTES_MAX;
            let has_room = !is_behind && self.context.queue.offer(delivery, bytes).is_ok();
            if has_room {
                self.context.health.handed_over.fetch_add(1, Ordering::Relaxed);
                fault_point::reach("handed-over");
            }
            has_room
        };
        deliveries.into_iter().all(handed_over)
    }

    fn delivery(&self, topic: &Arc<str>, sent: &Sent<'_>, claim_epoch: i64) -> Option<(Delivery, usize)> {
        let active = self.context.versions.active();
        let mut subscriptions = active.version.manifest.subscriptions.iter();
        let subscription = subscriptions.find(|subscription| subscription.topic == **topic)?;
        let delivery = delivery_of(sent.record, (sent.seq, sent.index), subscription, topic, claim_epoch);
        let bytes = delivery.size();
        Some((delivery, bytes))
    }
}

/// The delivery of a record that is sent: the same as of the record that Kafka brings, but for the offset.
fn delivery_of(
    record: &Record,
    (seq, index): (i64, usize),
    subscription: &Subscription,
    topic: &Arc<str>,
    claim_epoch: i64,
) -> Delivery {
    let Record { partition, timestamp_ms, key, payload, .. } = record;
    let raw = RawRecord {
        partition: *partition,
        offset: OFFSET_UNKNOWN,
        timestamp_ms: Some(*timestamp_ms),
        key: key.as_deref(),
        payload: payload.as_deref(),
    };
    let sequence = record.sequence(seq, index);
    let headers = record.kafka_headers(sequence.as_ref());
    let headers = headers.map(|(name, value)| (name.as_bytes(), Some(value)));
    delivery(raw, Ok(headers), subscription, topic, claim_epoch)
}

impl Receiver for HandedOver {
    fn sent(&self, sent: &Sent<'_>) -> bool {
        let mut topics = self.topics.lock();
        let Some(topic) = topics.get_mut(&sent.record.topic).filter(|topic| !topic.has_other_writer) else {
            return false;
        };
        let partition = sent.record.partition;
        let epoch = self.context.claims.epoch(&(topic.name.clone(), partition));
        let Some(joining) = topic.partitions.get_mut(&partition) else { return false };
        let delivery = epoch.and_then(|epoch| Some((epoch, self.delivery(&topic.name, sent, epoch)?)));
        let Some((claim_epoch, delivery)) = delivery else {
            joining.leave();
            return false;
        };
        topic.identity = Some(sent.identity);
        let source = Source { claim_epoch, leadership: sent.leadership };
        match joining.sent(source, (sent.position, sent.acceptable), delivery, KEPT_BYTES_MAX) {
            Step::Kept => false,
            Step::First => true,
            Step::Deliver(deliveries) => {
                if !self.deliver(deliveries) {
                    joining.leave();
                }
                false
            }
        }
    }

    fn acknowledged(&self, topic: &str, partition: i32, position: i64, offset: i64) {
        let mut topics = self.topics.lock();
        let Some(joining) = topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(&partition))
        else {
            return;
        };
        if let Some(kept) = joining.acknowledged(position, offset)
            && !self.deliver(kept)
        {
            joining.leave();
        }
    }

    fn interrupted(&self, topic: &str, partition: i32) {
        let mut topics = self.topics.lock();
        if let Some(joining) = topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(&partition)) {
            joining.leave();
        }
    }
}

#[cfg(test)]
mod tests;
