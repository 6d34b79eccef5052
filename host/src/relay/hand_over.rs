//! Hand-over: gives a record that the leader sends to the lanes of this host that read its topic, without
//! waiting for Kafka. Kafka gets the record as always, and the dedup mark of the lane drops its copy.
//!
//! ```text
//!  order ──▶ sent ─────────────────────▶ receiver ──▶ the lane's queue
//!              └──▶ sender ──▶ Kafka ──▶ consumer ──▶ the lane's queue: a repeat, which moves the position
//! ```
//!
//! A lane must not get a record while an earlier one of its partition is missing: the mark of the later record
//! would make the earlier one pass for a repeat. So a receiver joins a partition only when it has read, from
//! Kafka, all that comes before a record that was sent ([`Receiver`]); and it leaves the partition when a
//! record is sent there in another way (`HandOver::interrupt`).
//!
//! Only topics whose one writer is the relay's database are handed over, as the policies of its plugins say
//! (`sole_writer`): records of other writers would be overtaken.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};

use super::in_flight::Place;
use crate::model::{identity::Identity, record::Record};

/// A record that the leader is about to send.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'r> {
    /// The record.
    pub record: &'r Record,
    /// Number of its outbox row.
    pub seq: i64,
    /// Its place in the row.
    pub index: usize,
    /// Orders the records of a database: later ones have higher positions.
    pub position: i64,
    /// The leadership under which it is sent; no two are alike.
    pub leadership: u64,
    /// Of the database that sends it.
    pub identity: Identity,
    /// Whether Kafka can be expected to accept it: it has accepted one that was as large.
    pub acceptable: bool,
}

/// A consumer of this host to which records are handed over.
///
/// It joins a partition in three steps. It keeps the first record that is sent there, and those after it.
/// When Kafka has acknowledged the first one, its offset is known. When everything below that offset is read
/// from Kafka, the lane gets what was kept, and from then on each record when it is sent.
pub trait Receiver: Send + Sync + std::fmt::Debug {
    /// A record is sent. Returns whether it is the first one, whose offset [`Receiver::acknowledged`] must
    /// report.
    fn sent(&self, sent: &Sent<'_>) -> bool;

    /// Kafka has stored the record of this position at `offset`.
    fn acknowledged(&self, topic: &str, partition: i32, position: i64, offset: i64);

    /// Something is sent to the partition, or may be, that is not handed over.
    fn interrupted(&self, topic: &str, partition: i32);
}

/// The consumers of this host, by the topics that they read.
#[derive(Debug, Default)]
pub struct Receivers(RwLock<HashMap<String, Vec<Arc<dyn Receiver>>>>);

impl Receivers {
    /// Makes these the topics that a consumer reads.
    pub fn set_topics(&self, receiver: &Arc<dyn Receiver>, topics: &[String]) {
        let mut receivers = self.0.write();
        for others in receivers.values_mut() {
            others.retain(|other| !Arc::ptr_eq(other, receiver));
        }
        for topic in topics {
            receivers.entry(topic.clone()).or_default().push(receiver.clone());
        }
    }

    fn any(&self, topic: &str, mut to: impl FnMut(&dyn Receiver) -> bool) -> bool {
        let receivers = self.0.read();
        let of_topic = receivers.get(topic).into_iter().flatten();
        of_topic.fold(false, |any, receiver| to(&**receiver) | any)
    }
}

/// A record whose offset a receiver waits for.
#[derive(Debug)]
struct Awaited {
    place: Place,
    size: usize,
}

/// What the relay of one database hands over, and to whom.
#[derive(Debug)]
pub struct HandOver {
    receivers: Arc<Receivers>,
    /// The topics with one writer, by plugin.
    topics: RwLock<HashMap<String, BTreeSet<String>>>,
    leadership: AtomicU64,
    /// By position.
    awaited: Mutex<HashMap<i64, Awaited>>,
    has_awaited: AtomicBool,
    /// The largest record that Kafka is known to accept, by topic.
    accepted: Mutex<HashMap<String, usize>>,
}

/// The number of the next leadership of any relay of this process.
static LEADERSHIPS: AtomicU64 = AtomicU64::new(1);

impl HandOver {
    /// Hands nothing over yet.
    #[must_use]
    pub fn new(receivers: Arc<Receivers>) -> Self {
        Self {
            receivers,
            topics: RwLock::default(),
            leadership: AtomicU64::new(0),
            awaited: Mutex::default(),
            has_awaited: AtomicBool::new(false),
            accepted: Mutex::default(),
        }
    }

    /// The topics to which only this database writes, as the active version of a plugin says.
    pub fn set_sole_writer(&self, plugin: &str, topics: &[String]) {
        let topics: BTreeSet<String> = topics.iter().cloned().collect();
        let before = match topics.is_empty() {
            true => self.topics.write().remove(plugin),
            false => self.topics.write().insert(plugin.to_owned(), topics),
        };
        // Records of a topic that is no longer handed over are sent without a word.
        if before.is_some() {
            self.restart();
        }
    }

    /// Starts anew: receivers join again. Call when this host begins to lead, and when records may be sent
    /// again or in another order than they were handed over.
    pub fn restart(&self) {
        self.leadership.store(LEADERSHIPS.fetch_add(1, Ordering::Relaxed), Ordering::Release);
        self.awaited.lock().clear();
        self.has_awaited.store(false, Ordering::Release);
    }

    fn hands_over(&self, topic: &str) -> bool {
        let topics = self.topics.read();
        !topics.is_empty() && topics.values().any(|of_plugin| of_plugin.contains(topic))
    }

    /// Call before a record is passed to the batching client, in the order of sending.
    pub(super) fn sent(&self, record: &Record, (seq, index): (i64, usize), position: i64) {
        if !self.hands_over(&record.topic) {
            return;
        }
        // A compacted topic refuses records without a key.
        let Some(identity) = record.identity().filter(|_| record.key.is_some()) else {
            return self.interrupt(record);
        };
        let size = record.size();
        let acceptable = self.accepted.lock().get(&record.topic).is_some_and(|accepted| size <= *accepted);
        let leadership = self.leadership.load(Ordering::Acquire);
        let sent = Sent { record, seq, index, position, leadership, identity, acceptable };
        // Before the receivers decide: the answer of Kafka may come at once.
        let is_first = self.receivers.any(&record.topic, |receiver| receiver.sent(&sent));
        if is_first {
            let place = (record.topic.clone(), record.partition);
            self.awaited.lock().insert(position, Awaited { place, size });
            self.has_awaited.store(true, Ordering::Release);
        }
    }

    /// Call when a record is sent in another way than by the batching client, or cannot be passed to it.
    pub(super) fn interrupt(&self, record: &Record) {
        if !self.hands_over(&record.topic) {
            return;
        }
        self.receivers.any(&record.topic, |receiver| {
            receiver.interrupted(&record.topic, record.partition);
            false
        });
    }

    /// Kafka has stored a record of the batching client at `offset`; negative when it does not say where.
    pub(super) fn acknowledged(&self, position: i64, offset: i64) {
        if !self.has_awaited.load(Ordering::Acquire) {
            return;
        }
        let Awaited { place: (topic, partition), size } = {
            let mut awaited = self.awaited.lock();
            let Some(found) = awaited.remove(&position) else { return };
            self.has_awaited.store(!awaited.is_empty(), Ordering::Release);
            found
        };
        let mut accepted = self.accepted.lock();
        let largest = accepted.entry(topic.clone()).or_default();
        *largest = size.max(*largest);
        drop(accepted);
        self.receivers.any(&topic, |receiver| {
            match offset < 0 {
                true => receiver.interrupted(&topic, partition),
                false => receiver.acknowledged(&topic, partition, position, offset),
            }
            false
        });
    }
}

/// The headers of a record as the Kafka client sends them.
#[cfg(test)]
pub(crate) fn sent_headers(record: &Record, seq: i64, index: usize) -> Vec<(String, Option<Vec<u8>>)> {
    use rdkafka::message::Headers;
    let headers = super::headers::kafka_headers(record, seq, index);
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}
