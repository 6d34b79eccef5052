//! A delivery: one record, due timer, due deadline, or parked delivery that is retried.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{dedup::DedupMark, trace::Trace};

/// One input of a plugin. It is serialized when it is parked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Unique id: the record's `ce_id`, else `topic/partition/offset`; for timers and deadlines an id that
    /// the host assigns.
    pub id: String,
    /// What caused the delivery.
    pub origin: Origin,
    /// The correlation key, which the subscription's correlation extracts. It selects the saga, and
    /// deliveries of one key keep their order.
    pub correlation: Option<String>,
    /// CloudEvents `type`, empty when absent.
    pub event_type: String,
    /// The key of the record.
    pub key: Option<Vec<u8>>,
    /// Headers of the record, without those of CloudEvents and the trace.
    pub headers: Vec<(String, Vec<u8>)>,
    /// None for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Time of the record, microseconds since 1970.
    pub timestamp_us: i64,
    /// Number of this attempt, counting from 1.
    pub attempt: u32,
    /// The trace that the delivery continues.
    pub trace: Trace,
    /// Its place in the stream of the saga-host lane that published it; none for foreign records.
    pub mark: Option<DedupMark>,
    /// The message id of a foreign producer, if the subscription deduplicates by it.
    pub foreign_id: Option<String>,
    /// The row of `saga.parked` that it comes from.
    #[serde(skip)]
    pub parked_id: Option<i64>,
    /// Epoch of the claim under which its record was read: after a new claim it is read again.
    #[serde(skip)]
    pub claim_epoch: i64,
}

/// What caused a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A Kafka record.
    Kafka {
        /// Topic.
        #[serde(with = "crate::model::shared_text")]
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// A timer that is due.
    Timer {
        /// The name that the plugin chose.
        name: String,
    },
    /// A live saga whose deadline is due.
    Deadline {
        /// Type of the saga.
        saga_type: String,
        /// Key of the saga.
        key: String,
        /// Revision of the saga that set the deadline.
        revision: i64,
    },
}

impl Delivery {
    /// A delivery with nothing but its origin and time, microseconds since 1970.
    pub(crate) fn bare(origin: Origin, timestamp_us: i64) -> Self {
        Self {
            id: String::new(),
            origin,
            correlation: None,
            event_type: String::new(),
            key: None,
            headers: Vec::new(),
            payload: None,
            timestamp_us,
            attempt: 1,
            trace: Trace::start(),
            mark: None,
            foreign_id: None,
            parked_id: None,
            claim_epoch: 0,
        }
    }

    /// Approximate bytes that the delivery occupies in a queue.
    #[must_use]
    pub fn size(&self) -> usize {
        256 + self.id.len()
            + self.payload.as_ref().map_or(0, Vec::len)
            + self.key.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
    }

    /// The origin as a person sees it: `topic/partition/offset`, `timer/NAME`, or `deadline/TYPE/KEY`.
    #[must_use]
    pub fn source(&self) -> String {
        match &self.origin {
            Origin::Kafka { topic, partition, offset } => format!("{topic}/{partition}/{offset}"),
            Origin::Timer { name } => format!("timer/{name}"),
            Origin::Deadline { saga_type, key, .. } => format!("deadline/{saga_type}/{key}"),
        }
    }

    /// The key of the saga that the delivery may belong to.
    #[must_use]
    pub fn saga_key(&self) -> Option<&str> {
        match &self.origin {
            Origin::Deadline { key, .. } => Some(key),
            _ => self.correlation.as_deref(),
        }
    }

    /// Whether the two must be handled in order: they have the same partition and the same correlation key.
    #[must_use]
    pub fn shares_order_with(&self, other: &Self) -> bool {
        let partition = |delivery: &Self| match &delivery.origin {
            Origin::Kafka { topic, partition, .. } => Some((topic.clone(), *partition)),
            _ => None,
        };
        self.correlation == other.correlation && partition(self) == partition(other)
    }
}
