//! Turns a Kafka record into a delivery: finds message id, trace and correlation key, for records of any
//! sender, whatever bytes they consist of. A record that the host cannot read becomes a delivery, too, which
//! the next unit parks with the reason.

use std::sync::Arc;

use crate::model::{
    correlation::{Headers, correlate, indexable},
    dedup::DedupMark,
    delivery::{Delivery, Origin},
    identity::Sequence,
    manifest::Subscription,
    trace::Trace,
};

/// A record as Kafka has it.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'r> {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970; none when the record has no timestamp.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<&'r [u8]>,
    /// Value; none for a tombstone.
    pub payload: Option<&'r [u8]>,
}

/// CloudEvents 1.0 (Kafka binding, binary mode) and W3C Trace Context, as far as the host reads them.
#[derive(Default)]
struct Envelope<'a> {
    id: Option<String>,
    source: &'a [u8],
    event_type: String,
    sequence: Option<Sequence>,
    trace: Option<Trace>,
    trace_states: Vec<&'a [u8]>,
    others: Headers,
}

/// Reads a record. `headers` are name and value, or why they cannot be decoded; `claim` is the epoch under
/// which the partition was read.
#[must_use]
pub fn delivery<'r>(
    record: RawRecord<'r>,
    headers: Result<impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>, String>,
    subscription: &Subscription,
    topic: &Arc<str>,
    claim: i64,
) -> Delivery {
    let RawRecord { partition, offset, timestamp_ms, key, payload } = record;
    let origin = Origin::Kafka { topic: topic.clone(), partition, offset };
    let (envelope, undecodable) = match headers {
        Ok(headers) => (envelope(headers), None),
        Err(reason) => (Envelope::default(), Some(format!("its headers cannot be decoded: {reason}"))),
    };
    let mark = envelope.id.as_deref().and_then(|id| DedupMark::of_record(envelope.source, id));
    let stream = mark.as_ref().map(|mark| &*mark.stream);
    let sequence = envelope.sequence.filter(|sequence| stream.is_some_and(|stream| sequence.is_of(stream)));
    let foreign_id = envelope
        .id
        .as_ref()
        .filter(|_| subscription.foreign_ids && mark.is_none())
        .map(|id| indexable(format!("{} {id}", String::from_utf8_lossy(envelope.source))));
    let (correlation, without_key) =
        match correlate(&subscription.correlation, key, &envelope.others, payload) {
            Ok(key) => (key, None),
            Err(reason) => (None, Some(format!("it has no correlation key: {reason}"))),
        };
    let unreadable =
        undecodable.or(without_key).map(|reason| format!("{origin} is not delivered: {reason}").into());
    Delivery {
        id: envelope.id.unwrap_or_else(|| origin.to_string()),
        origin,
        correlation,
        event_type: envelope.event_type,
        key: key.map(<[u8]>::to_vec),
        headers: envelope.others,
        payload: payload.map(<[u8]>::to_vec),
        timestamp_us: timestamp_ms.unwrap_or(0).saturating_mul(1_000),
        attempt: 1,
        trace: match envelope.trace {
            Some(trace) => trace.with_state(envelope.trace_states),
            None => Trace::start(),
        },
        mark,
        foreign_id,
        sequence,
        parked_id: None,
        claim_epoch: claim,
        unreadable,
    }
}

fn envelope<'r>(headers: impl Iterator<Item = (&'r [u8], Option<&'r [u8]>)>) -> Envelope<'r> {
    let mut envelope = Envelope::default();
    for (name, value) in headers {
        let value = value.unwrap_or_default();
        match name {
            b"ce_id" => {
                envelope.id = std::str::from_utf8(value).ok().filter(|id| !id.is_empty()).map(str::to_owned)
            }
            b"ce_source" => envelope.source = value,
            b"ce_type" => envelope.event_type = String::from_utf8_lossy(value).into_owned(),
            b"ce_sequence" => envelope.sequence = Sequence::parse(value),
            b"traceparent" => envelope.trace = Trace::parse(value),
            b"tracestate" => envelope.trace_states.push(value),
            name if name.starts_with(b"ce_") => {}
            name => {
                // Plugins get names as text: bytes that are not UTF-8 become U+FFFD.
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                envelope.others.push((name, value.to_vec()));
            }
        }
    }
    envelope
}

#[cfg(test)]
mod tests;
