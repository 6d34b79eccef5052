//! Turns a Kafka record into a delivery: finds message id, trace and correlation key, for records of any
//! sender.

use std::sync::Arc;

use rdkafka::{Message, message::Headers};

use crate::model::{
    correlation::{correlate, indexable},
    dedup::DedupMark,
    delivery::{Delivery, Origin},
    identity::Sequence,
    manifest::Subscription,
    trace::Trace,
};

/// CloudEvents 1.0 (Kafka binding, binary mode) and W3C Trace Context, as far as the host reads them.
#[derive(Default)]
struct Envelope<'a> {
    id: Option<String>,
    source: &'a [u8],
    event_type: String,
    sequence: Option<Sequence>,
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
    let mark = envelope.id.as_deref().and_then(|id| DedupMark::of_record(envelope.source, id));
    let stream = mark.as_ref().map(|mark| &*mark.stream);
    let sequence = envelope.sequence.filter(|sequence| stream.is_some_and(|stream| sequence.is_of(stream)));
    let foreign_id = envelope
        .id
        .as_ref()
        .filter(|_| subscription.foreign_ids && mark.is_none())
        .map(|id| indexable(format!("{} {id}", String::from_utf8_lossy(envelope.source))));
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
        sequence,
        parked_id: None,
        claim_epoch: claim,
    }
}

fn envelope(message: &impl Message) -> Envelope<'_> {
    let mut envelope = Envelope::default();
    let Some(headers) = message.headers() else { return envelope };
    for header in headers.iter() {
        let value = header.value.unwrap_or_default();
        match header.key {
            "ce_id" => {
                envelope.id = std::str::from_utf8(value).ok().filter(|id| !id.is_empty()).map(str::to_owned)
            }
            "ce_source" => envelope.source = value,
            "ce_type" => envelope.event_type = String::from_utf8_lossy(value).into_owned(),
            "ce_sequence" => envelope.sequence = Sequence::parse(value),
            "traceparent" => envelope.trace = Trace::parse(value),
            "tracestate" => {}
            name if name.starts_with("ce_") => {}
            name => envelope.others.push((name.to_ascii_lowercase(), value.to_vec())),
        }
    }
    envelope
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rdkafka::{
        Timestamp,
        message::{Header, OwnedHeaders, OwnedMessage},
    };

    use super::{Delivery, Subscription, delivery};
    use crate::model::manifest::Correlation;

    const ID: &str = "6921f3c000c0ffee:2:7:17:0";
    const SEQUENCE: &str = "6921f3c000c0ffee-00000000000000000010-00000";

    fn read(source: &str, id: &str, sequence: &str) -> Delivery {
        let headers = [("ce_source", source), ("ce_id", id), ("ce_sequence", sequence)];
        let add = |all: OwnedHeaders, (key, value)| all.insert(Header { key, value: Some(value) });
        let headers = headers.into_iter().fold(OwnedHeaders::new(), add);
        let message =
            OwnedMessage::new(None, None, "t".into(), Timestamp::CreateTime(1), 0, 0, Some(headers));
        let (correlation, foreign_ids) = (Correlation::Unordered, true);
        let subscription = Subscription { topic: "t".into(), correlation, foreign_ids };
        delivery(&message, &subscription, &Arc::from("t"), 1)
    }

    #[test]
    fn only_a_record_of_a_saga_host_has_a_sequence() {
        let ours = read("/saga-host/d/p", ID, SEQUENCE);
        assert_eq!(ours.sequence.as_ref().map(|sequence| sequence.as_str()), Some(SEQUENCE));
        assert!(ours.mark.is_some() && ours.foreign_id.is_none());
        for (source, id, sequence) in [
            ("/other", ID, SEQUENCE),
            ("/saga-host/d/p", "a\nb:1:2:3:4", SEQUENCE),
            ("/saga-host/d/p", "6921f3c000c0ffef:2:7:17:0", SEQUENCE),
            ("/saga-host/d/p", ID, "17"),
            ("/saga-host/d/p", "d:2:7:17:0", SEQUENCE),
        ] {
            assert_eq!(read(source, id, sequence).sequence, None, "{source} {id:?} {sequence}");
        }
    }

    #[test]
    fn an_id_that_no_lane_gives_is_a_foreign_one() {
        let forged = read("/saga-host/x/y", "a\nb:1:2:3:4", "");
        assert_eq!(forged.mark, None);
        assert_eq!(forged.foreign_id.as_deref(), Some("/saga-host/x/y a\nb:1:2:3:4"));
    }
}
