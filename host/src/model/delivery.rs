//! What walks the path: one record, due timer, deadline, or held delivery that is tried again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{dedup::DedupMark, trace::Trace};

/// One thing for a plugin to handle. Serialized when it is held.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// `ce_id`, else `topic/partition/offset`; for timers and deadlines a name that is theirs alone.
    pub id: String,
    /// Where it came from.
    pub origin: Origin,
    /// What orders it and finds its saga, as the subscription's correlation extracts it.
    pub correlation: Option<String>,
    /// CloudEvents `type`, empty when absent.
    pub event_type: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Without the CloudEvents and trace headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// None is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Microseconds since 1970.
    pub timestamp_us: i64,
    /// From 1.
    pub attempt: u32,
    /// The trace that it continues.
    pub trace: Trace,
    /// Its place in the stream of the saga-host lane that published it; none for foreign records.
    pub mark: Option<DedupMark>,
    /// A foreign producer's id that must be handled once.
    pub foreign_id: Option<String>,
    /// The row of `saga.parked` that it comes from.
    #[serde(skip)]
    pub parked_id: Option<i64>,
    /// Epoch of the claim under which its record was read: after a new claim it is read again.
    #[serde(skip)]
    pub claim_epoch: i64,
}

/// Where a delivery came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A record.
    Kafka {
        /// Its topic.
        #[serde(with = "crate::model::shared_text")]
        topic: Arc<str>,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// A timer that fell due.
    Timer {
        /// As the plugin named it.
        name: String,
    },
    /// A live saga that is to be looked at.
    Deadline {
        /// Its type.
        saga_type: String,
        /// Its key.
        key: String,
        /// The revision that set the deadline.
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

    /// Bytes that it occupies in a queue, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        256 + self.id.len()
            + self.payload.as_ref().map_or(0, Vec::len)
            + self.key.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
    }

    /// The address under which a person finds it: `topic/partition/offset`, `timer/NAME`, or
    /// `deadline/TYPE/KEY`.
    #[must_use]
    pub fn source(&self) -> String {
        match &self.origin {
            Origin::Kafka { topic, partition, offset } => format!("{topic}/{partition}/{offset}"),
            Origin::Timer { name } => format!("timer/{name}"),
            Origin::Deadline { saga_type, key, .. } => format!("deadline/{saga_type}/{key}"),
        }
    }

    /// The key of the saga that it may belong to.
    #[must_use]
    pub fn saga_key(&self) -> Option<&str> {
        match &self.origin {
            Origin::Deadline { key, .. } => Some(key),
            _ => self.correlation.as_deref(),
        }
    }

    /// Whether the order of the two is promised: one partition, one key.
    #[must_use]
    pub fn shares_order_with(&self, other: &Self) -> bool {
        let place = |delivery: &Self| match &delivery.origin {
            Origin::Kafka { topic, partition, .. } => Some((topic.clone(), *partition)),
            _ => None,
        };
        self.correlation == other.correlation && place(self) == place(other)
    }
}
