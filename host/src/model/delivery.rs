//! A delivery: one record, due timer, due deadline, or parked delivery that is retried.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    dedup::DedupMark,
    format::{Format, Unreadable},
    identity::Sequence,
    trace::Trace,
};

/// The header that keeps the state of the trace of a parked delivery.
const TRACESTATE: &str = "tracestate";

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
    /// Where it stands among all records of saga-hosts; none for foreign records, timers and deadlines.
    #[serde(skip)]
    pub sequence: Option<Sequence>,
    /// The row of `saga.parked` that it comes from.
    #[serde(skip)]
    pub parked_id: Option<i64>,
    /// Epoch of the claim under which its record was read: after a new claim it is read again.
    #[serde(skip)]
    pub claim_epoch: i64,
    /// Why the host cannot read the record: the next unit parks it with this reason. After a redrive the
    /// plugin gets it as it is, without what the host could not read.
    #[serde(skip)]
    pub unreadable: Option<Box<str>>,
}

/// The offset of a record that was handed over: Kafka has not said it yet.
pub const OFFSET_UNKNOWN: i64 = -1;

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
        /// Offset, or [`OFFSET_UNKNOWN`].
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

/// The origin as a person sees it: `topic/partition/offset` (`topic/partition` while the offset is unknown),
/// `timer/NAME`, or `deadline/TYPE/KEY`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { topic, partition, offset: OFFSET_UNKNOWN } => write!(f, "{topic}/{partition}"),
            Self::Kafka { topic, partition, offset } => write!(f, "{topic}/{partition}/{offset}"),
            Self::Timer { name } => write!(f, "timer/{name}"),
            Self::Deadline { saga_type, key, .. } => write!(f, "deadline/{saga_type}/{key}"),
        }
    }
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
            sequence: None,
            parked_id: None,
            claim_epoch: 0,
            unreadable: None,
        }
    }

    /// Encodes it to be parked. The sequence comes last: a build that knows none reads the rest. The state of the
    /// trace is a header, which no other delivery has ([`Delivery::headers`]). The encoding is pinned by a test: a
    /// change of it is a new format.
    #[must_use]
    pub fn encode_as(&self, format: Format) -> Vec<u8> {
        let with_state = self.trace.state().map(|state| {
            let mut delivery = self.clone();
            delivery.headers.push((TRACESTATE.to_owned(), state.into()));
            delivery
        });
        // Encoding cannot fail: vectors, numbers and texts.
        let mut content = postcard::to_stdvec(with_state.as_ref().unwrap_or(self)).unwrap_or_default();
        content.extend_from_slice(self.sequence.as_ref().map_or("", Sequence::as_str).as_bytes());
        format.body(content)
    }

    /// Decodes a parked one.
    ///
    /// # Errors
    /// A later build has written it, or it is damaged.
    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let decoded = postcard::take_from_bytes::<Self>(Format::content(body)?);
        let (mut delivery, sequence) = decoded.map_err(|error| Unreadable::Damaged(error.to_string()))?;
        if let Some((_, state)) = delivery.headers.pop_if(|(name, _)| name == TRACESTATE) {
            delivery.trace = delivery.trace.with_state([&*state]);
        }
        Ok(Self { sequence: Sequence::parse(sequence), ..delivery })
    }

    /// Approximate bytes that the delivery occupies in a queue.
    #[must_use]
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        256 + self.id.len()
            + self.event_type.len()
            + text(&self.correlation)
            + text(&self.foreign_id)
            + self.payload.as_ref().map_or(0, Vec::len)
            + self.key.as_ref().map_or(0, Vec::len)
            + self.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Delivery, Format, Origin, Sequence};
    use crate::model::trace::Trace;

    #[test]
    fn a_parked_delivery_keeps_its_sequence_and_one_of_an_earlier_build_has_none() {
        let sequence = Sequence::parse(b"6921f3c000c0ffee-00000000000000000010-00000");
        let origin = Origin::Kafka { topic: "t".into(), partition: 1, offset: 2 };
        let parked = Delivery { sequence, ..Delivery::bare(origin, 7) };
        assert!(sequence.is_some());
        for format in [Format::previous(), Format::newest()] {
            assert_eq!(Delivery::decode(&parked.encode_as(format)).unwrap().sequence, sequence);
        }
        let earlier = postcard::to_stdvec(&parked).unwrap();
        assert_eq!(Delivery::decode(&earlier).unwrap().sequence, None);
        let read_by_0_1_0: Delivery = postcard::from_bytes(&parked.encode_as(Format::previous())).unwrap();
        assert_eq!(read_by_0_1_0.timestamp_us, 7);
        assert!(Delivery::decode(&earlier[..3]).is_err());
    }

    #[test]
    fn a_parked_delivery_keeps_the_state_of_its_trace() {
        let trace = Trace::start().with_state([&b"rojo=1"[..]]);
        let headers = vec![("h".to_owned(), b"v".to_vec())];
        let parked = Delivery {
            trace: trace.clone(),
            headers,
            ..Delivery::bare(Origin::Timer { name: "t".into() }, 7)
        };
        let decoded = Delivery::decode(&parked.encode_as(Format::newest())).unwrap();
        assert_eq!((decoded.trace, decoded.headers), (trace, parked.headers));
    }

    /// Databases hold parked deliveries of released builds. A change of the encoding is a new format.
    #[test]
    fn the_encoding_of_a_format_never_changes() {
        let origin = Origin::Kafka { topic: "t".into(), partition: 1, offset: 2 };
        let delivery = Delivery {
            id: "i".into(),
            correlation: Some("c".into()),
            event_type: "e".into(),
            key: Some(b"k".to_vec()),
            headers: vec![("h".into(), b"v".to_vec())],
            payload: Some(b"{}".to_vec()),
            trace: Trace::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap(),
            ..Delivery::bare(origin, 7)
        };
        let bodies = [Format::previous(), Format::newest()].map(|format| delivery.encode_as(format));
        assert_eq!(
            hex::encode(&bodies[0]),
            "01690001740204010163016501016b010168017601027b7d0e019ce380e491e4baa484bb8feaeca2c6b2f715010000"
        );
        assert_eq!(bodies[1], Format::newest().body(bodies[0].clone()));
        for body in bodies {
            let decoded = Delivery::decode(&body).unwrap();
            assert_eq!(
                (decoded.id, decoded.origin, decoded.payload),
                ("i".into(), delivery.origin.clone(), delivery.payload.clone())
            );
        }
    }
}
