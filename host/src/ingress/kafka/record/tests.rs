//! Any bytes in any field become one delivery that keeps them.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*};

use super::{RawRecord, delivery};
use crate::model::{
    correlation::Headers,
    delivery::{Delivery, Origin},
    format::Format,
    manifest::{Correlation, Subscription},
};

type RawHeader = (Vec<u8>, Option<Vec<u8>>);

fn read(
    record: RawRecord<'_>,
    headers: Option<&[RawHeader]>,
    correlation: Correlation,
    foreign_ids: bool,
) -> Delivery {
    let topic: Arc<str> = "topic".into();
    let subscription = Subscription { topic: topic.to_string(), correlation, foreign_ids };
    let headers = headers.ok_or_else(|| "Local: Bad message format".to_owned());
    let headers = headers.map(|all| all.iter().map(|(name, value)| (&**name, value.as_deref())));
    delivery(record, headers, &subscription, &topic, 7)
}

fn at(offset: i64) -> RawRecord<'static> {
    RawRecord { partition: 3, offset, timestamp_ms: None, key: None, payload: None }
}

fn a_header() -> impl Strategy<Value = RawHeader> {
    let known = vec!["ce_id", "ce_source", "ce_type", "ce_", "traceparent", "tracestate", "order"];
    let name = prop_oneof![
        vec(any::<u8>(), 0..12),
        prop::sample::select(known).prop_map(|name| name.as_bytes().to_vec()),
    ];
    let value = prop_oneof![
        vec(any::<u8>(), 0..40),
        Just(b"/saga-host/d/p".to_vec()),
        Just(b"a\nb:1:2:3:4".to_vec()),
        Just(b"d:1:9223372036854775807:2:4294967295".to_vec()),
        Just(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_vec()),
    ];
    (name, option::of(value))
}

fn a_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..64),
        r#"[\[\]{}":,0-9eE.+\-a-z \\u]{0,40}"#.prop_map(String::into_bytes),
        r#"\{"a": ?("[a-zA-Z0-9\-]{0,40}"|-?[0-9]{1,30}(\.[0-9]+)?(e[0-9]{1,3})?|null|true|\{\}|\[1\])\}"#
            .prop_map(String::into_bytes),
    ]
}

fn a_correlation() -> impl Strategy<Value = Correlation> {
    prop_oneof![
        Just(Correlation::RecordKey),
        Just(Correlation::Unordered),
        prop_oneof![Just("order"), Just("\u{fffd}")].prop_map(|name| Correlation::Header(name.to_owned())),
        prop_oneof![Just("/a"), Just(""), Just("/a/0"), Just("a")]
            .prop_map(|pointer| Correlation::Json(pointer.to_owned())),
    ]
}

proptest! {
    #[test]
    fn any_record_becomes_one_delivery(
        headers in option::of(vec(a_header(), 0..6)),
        key in option::of(vec(any::<u8>(), 0..300)),
        payload in option::of(a_payload()),
        timestamp_ms in option::of(any::<i64>()),
        offset in 0..i64::MAX,
        correlation in a_correlation(),
        foreign_ids in any::<bool>(),
    ) {
        let record = RawRecord {
            timestamp_ms,
            key: key.as_deref(),
            payload: payload.as_deref(),
            ..at(offset)
        };
        let read = read(record, headers.as_deref(), correlation, foreign_ids);
        prop_assert_eq!(&read.origin, &Origin::Kafka { topic: "topic".into(), partition: 3, offset });
        prop_assert_eq!((&read.key, &read.payload), (&key, &payload));
        prop_assert_eq!(read.claim_epoch, 7);
        prop_assert!(headers.is_some() || read.unreadable.is_some());
        prop_assert!(read.correlation.is_none() || read.unreadable.is_none() || headers.is_none());
        // What Postgres stores and indexes.
        for text in read.correlation.iter().chain(&read.foreign_id) {
            prop_assert!(!text.contains('\0') && text.len() <= 256, "{:?}", text);
        }
        let parked = Delivery::decode(&read.encode_as(Format::newest())).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(parked.sequence, read.sequence);
        prop_assert_eq!(parked.payload, payload);
    }
}

#[test]
fn a_header_name_that_is_no_text_is_replaced_and_its_neighbours_are_read() {
    let headers: [RawHeader; 3] = [
        (vec![0xff, b'X'], Some(b"v".to_vec())),
        (b"ce_id".to_vec(), Some(b"id-1".to_vec())),
        (b"Null".to_vec(), None),
    ];
    let read = read(at(5), Some(&headers), Correlation::Unordered, false);
    let expected: Headers = vec![("\u{fffd}x".to_owned(), b"v".to_vec()), ("null".to_owned(), Vec::new())];
    assert_eq!((read.id.as_str(), read.headers, read.unreadable), ("id-1", expected, None));
}

#[test]
fn a_record_that_cannot_be_read_says_where_it_is_and_what_is_wrong() {
    let payload = Some(&b"\0\0\0\0\x07{}"[..]);
    let framed = read(RawRecord { payload, ..at(5) }, Some(&[]), Correlation::Json("/a".into()), false);
    let reason = framed.unreadable.unwrap_or_default();
    assert!(reason.starts_with("topic/3/5 is not delivered: it has no correlation key: "), "{reason}");
    assert!(reason.contains("schema registry (schema 7)"), "{reason}");
    let undecodable = read(at(6), None, Correlation::Unordered, false).unreadable.unwrap_or_default();
    assert_eq!(
        &*undecodable,
        "topic/3/6 is not delivered: its headers cannot be decoded: Local: Bad message format"
    );
}

const ID: &str = "6921f3c000c0ffee:2:7:17:0";
const SEQUENCE: &str = "6921f3c000c0ffee-00000000000000000010-00000";

fn of_lane(source: &str, id: &str, sequence: &str) -> Delivery {
    let headers = [("ce_source", source), ("ce_id", id), ("ce_sequence", sequence)];
    let headers = headers.map(|(name, value)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec())));
    read(at(0), Some(&headers), Correlation::Unordered, true)
}

#[test]
fn only_a_record_of_a_saga_host_has_a_sequence() {
    let ours = of_lane("/saga-host/d/p", ID, SEQUENCE);
    assert_eq!(ours.sequence.as_ref().map(|sequence| sequence.as_str()), Some(SEQUENCE));
    assert!(ours.mark.is_some() && ours.foreign_id.is_none());
    for (source, id, sequence) in [
        ("/other", ID, SEQUENCE),
        ("/saga-host/d/p", "a\nb:1:2:3:4", SEQUENCE),
        ("/saga-host/d/p", "6921f3c000c0ffef:2:7:17:0", SEQUENCE),
        ("/saga-host/d/p", ID, "17"),
        ("/saga-host/d/p", "d:2:7:17:0", SEQUENCE),
    ] {
        assert_eq!(of_lane(source, id, sequence).sequence, None, "{source} {id:?} {sequence}");
    }
}

#[test]
fn an_id_that_no_lane_gives_is_a_foreign_one() {
    let forged = of_lane("/saga-host/x/y", "a\nb:1:2:3:4", "");
    assert_eq!(forged.mark, None);
    assert_eq!(forged.foreign_id.as_deref(), Some("/saga-host/x/y a\nb:1:2:3:4"));
}
