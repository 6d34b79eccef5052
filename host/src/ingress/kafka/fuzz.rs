//! Fuzzing: a record of any bytes on its way to a delivery.

use std::sync::Arc;

use super::record::{RawRecord, delivery};
use crate::model::{
    delivery::{Delivery, Origin},
    format::Format,
    manifest::{Correlation, Subscription},
};

/// The bits of the first byte.
const WITHOUT_KEY: u8 = 4;
const TOMBSTONE: u8 = 8;
const WITHOUT_TIME: u8 = 16;
const UNDECODABLE_HEADERS: u8 = 32;
const FOREIGN_IDS: u8 = 64;

/// The first byte says what the record has and how it is correlated. A line with its key follows, a line
/// `name:value` for each header, an empty line, and the value.
pub fn record(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let has_not = |bit: u8| choice & bit != 0;
    let (key, mut rest) = line(rest);
    let mut headers = Vec::new();
    while !rest.is_empty() {
        let (header, after) = line(rest);
        rest = after;
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        let value = Some(&header[colon + 1..]).filter(|value| !value.is_empty());
        headers.push((&header[..colon], value));
    }
    let raw = RawRecord {
        partition: 3,
        offset: 5,
        timestamp_ms: (!has_not(WITHOUT_TIME)).then(|| i64::from(rest.len() as u32) - 1),
        key: (!has_not(WITHOUT_KEY)).then_some(key),
        payload: (!has_not(TOMBSTONE)).then_some(rest),
    };
    let headers = match has_not(UNDECODABLE_HEADERS) {
        true => Err("bad message format".to_owned()),
        false => Ok(headers.into_iter()),
    };
    let correlation = match choice % 4 {
        0 => Correlation::RecordKey,
        1 => Correlation::Header("order".to_owned()),
        2 => Correlation::Json("/a/b".to_owned()),
        _ => Correlation::Unordered,
    };
    let topic: Arc<str> = "topic".into();
    let foreign_ids = has_not(FOREIGN_IDS);
    let subscription = Subscription { topic: topic.to_string(), correlation, foreign_ids };
    check(&raw, &delivery(raw, headers, &subscription, &topic, 7));
}

fn line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    (&data[..end], data.get(end + 1..).unwrap_or_default())
}

fn check(raw: &RawRecord<'_>, read: &Delivery) {
    assert!(matches!(read.origin, Origin::Kafka { partition: 3, offset: 5, .. }), "it is the same record");
    assert_eq!((read.key.as_deref(), read.payload.as_deref()), (raw.key, raw.payload), "nothing is changed");
    for text in read.correlation.iter().chain(&read.foreign_id) {
        assert!(!text.contains('\0') && text.len() <= 256, "Postgres stores and indexes it: {text:?}");
    }
    let parked = Delivery::decode(&read.encode_as(Format::newest())).ok();
    let (parked, read) = (parked.as_ref().map(parts), parts(read));
    assert_eq!(parked, Some(read), "a parked delivery is read as it was");
}

type Parts<'d> = (Option<&'d [u8]>, Option<&'d [u8]>, &'d [(String, Vec<u8>)], Option<&'d str>, &'d str);

fn parts(delivery: &Delivery) -> Parts<'_> {
    let Delivery { key, payload, headers, correlation, id, .. } = delivery;
    (key.as_deref(), payload.as_deref(), headers, correlation.as_deref(), id)
}
