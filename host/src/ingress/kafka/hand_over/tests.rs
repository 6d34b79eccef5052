use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::delivery_of;
use crate::{
    ingress::kafka::record::{RawRecord, delivery},
    model::{
        delivery::{Delivery, OFFSET_UNKNOWN, Origin},
        format::Format,
        manifest::{Correlation, Subscription},
        record::Record,
    },
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn a_record() -> impl Strategy<Value = Record> {
    let name = prop_oneof![Just("order".to_owned()), Just("tracestate".to_owned()), "[a-zA-Z_é-]{1,9}"];
    let headers = vec((name, vec(any::<u8>(), 0..40)), 0..4);
    let bytes = || option::of(vec(any::<u8>(), 0..64)).prop_map(|bytes| bytes.map(Bytes::from));
    let payload = prop_oneof![bytes(), Just(Some(Bytes::from_static(br#"{"a":"B-7"}"#)))];
    (headers, bytes(), payload, any::<i64>()).prop_map(|(others, key, payload, timestamp_ms)| {
        let host = [
            ("ce_id", "6921f3c000c0ffee:2:7:17:3"),
            ("ce_source", "/saga-host/d/p"),
            ("ce_type", "x"),
            ("traceparent", TRACE),
        ];
        let host = host.map(|(name, value)| (Cow::from(name), Bytes::from(value)));
        let others = others.into_iter().map(|(name, value)| (Cow::from(name), Bytes::from(value)));
        let headers = host.into_iter().chain(others).collect();
        Record { topic: "topic".to_owned(), partition: 3, timestamp_ms, key, payload, headers }
    })
}

/// Everything that a plugin and the database see, but for the offset.
fn seen(delivery: &Delivery) -> (Vec<u8>, Option<String>, i64, Option<Box<str>>) {
    let mut delivery = delivery.clone();
    if let Origin::Kafka { offset, .. } = &mut delivery.origin {
        *offset = OFFSET_UNKNOWN;
    }
    let sequence = delivery.sequence.as_ref().map(|sequence| sequence.as_str().to_owned());
    (delivery.encode_as(Format::newest()), sequence, delivery.claim_epoch, delivery.unreadable)
}

proptest! {
    #[test]
    fn a_record_that_was_handed_over_is_the_same_delivery_as_the_one_that_kafka_brings(
        record in a_record(), seq in 1..1_i64 << 40, index in 0..4096_usize, offset in 0..i64::MAX,
        correlation in prop_oneof![
            Just(Correlation::RecordKey),
            Just(Correlation::Unordered),
            Just(Correlation::Header("order".to_owned())),
            Just(Correlation::Json("/a".to_owned())),
        ],
    ) {
        let topic: Arc<str> = "topic".into();
        let subscription = Subscription { topic: topic.to_string(), correlation, foreign_ids: true };
        let handed_over = delivery_of(&record, (seq, index), &subscription, &topic, 7);

        let sent = crate::relay::hand_over::sent_headers(&record, seq, index);
        let headers = sent.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
        let raw = RawRecord {
            partition: 3,
            offset,
            timestamp_ms: Some(record.timestamp_ms),
            key: record.key.as_deref(),
            payload: record.payload.as_deref(),
        };
        let brought = delivery(raw, Ok(headers), &subscription, &topic, 7);
        let (mut left, mut right) = (seen(&handed_over), seen(&brought));
        // The reason names the place, which has an offset or not.
        let reason = |reason: Option<Box<str>>| {
            reason.map(|reason| reason.split_once(" is not ").map(|(_, what)| what.to_owned()))
        };
        prop_assert_eq!(reason(left.3.take()), reason(right.3.take()));
        prop_assert_eq!(left, right);
    }
}
