//! Turns a Kafka record into a delivery: finds message id, trace and correlation key, for records of any
//! sender.

use std::sync::Arc;

use rdkafka::{Message, message::Headers};

use crate::model::{
    correlation::{correlate, indexable},
    dedup::DedupMark,
    delivery::{Delivery, Origin},
    manifest::Subscription,
    trace::Trace,
};

/// How the `ce_source` of the host's own records starts.
const OUR_SOURCE: &[u8] = b"/saga-host/";

/// CloudEvents 1.0 (Kafka binding, binary mode) and W3C Trace Context, as far as the host reads them.
#[derive(Default)]
struct Envelope {
    id: Option<String>,
    source: Vec<u8>,
    event_type: String,
    trace: Option<Trace>,
    others: Vec<(String, Vec<u8>)>,
}

/// Reads a record; `claim` is the epoch under which its partition was read.
#[must_use]
pub fn delivery(
    message: &impl Message,
    subscription: &Subscription,
    topic: &Arc<str>,
    claim: i64,
) -> Delivery {
    let (partition, offset) = (message.partition(), message.offset());
    let envelope = envelope(message);
    let ours = envelope.source.starts_with(OUR_SOURCE);
    let mark = envelope.id.as_deref().filter(|_| ours).and_then(DedupMark::parse);
    let foreign_id = envelope
        .id
        .as_ref()
        .filter(|_| subscription.foreign_ids && mark.is_none())
        .map(|id| indexable(format!("{} {id}", String::from_utf8_lossy(&envelope.source))));
    let correlation =
        correlate(&subscription.correlation, message.key(), &envelope.others, message.payload());
    Delivery {
        id: envelope.id.unwrap_or_else(|| format!("{topic}/{partition}/{offset}")),
        origin: Origin::Kafka { topic: topic.clone(), partition, offset },
        correlation,
        event_type: envelope.event_type,
        key: message.key().map(<[u8]>::to_vec),
        headers: envelope.others,
        payload: message.payload().map(<[u8]>::to_vec),
        timestamp_us: message.timestamp().to_millis().unwrap_or(0).saturating_mul(1_000),
        attempt: 1,
        trace: envelope.trace.unwrap_or_else(Trace::start),
        mark,
        foreign_id,
        parked_id: None,
        claim_epoch: claim,
    }
}

fn envelope(message: &impl Message) -> Envelope {
    let mut envelope = Envelope::default();
    let Some(headers) = message.headers() else { return envelope };
    for header in headers.iter() {
        let value = header.value.unwrap_or_default();
        match header.key {
            "ce_id" => {
                envelope.id = std::str::from_utf8(value).ok().filter(|id| !id.is_empty()).map(str::to_owned)
            }
            "ce_source" => envelope.source = value.to_vec(),
            "ce_type" => envelope.event_type = String::from_utf8_lossy(value).into_owned(),
            "traceparent" => envelope.trace = Trace::parse(value),
            "tracestate" => {}
            name if name.starts_with("ce_") => {}
            name => envelope.others.push((name.to_ascii_lowercase(), value.to_vec())),
        }
    }
    envelope
}
