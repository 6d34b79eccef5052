//! Records of a unit: CloudEvents 1.0 in Kafka's binary mode, with W3C Trace Context.

use std::borrow::Cow;

use bytes::Bytes;

use super::{EffectCause, UnitContext, cause_of};
use crate::model::{
    effects::Outgoing,
    record::{MESSAGE_ID, Record, partition_of},
    trace::Trace,
};

/// The records, and which cause has sent which: (cause, index of the record), sorted by cause.
pub(super) fn of(
    context: &UnitContext<'_>,
    at: &str,
    published: Vec<Outgoing>,
    causes: &[EffectCause<'_>],
) -> (Vec<Record>, Vec<(u32, usize)>) {
    let mut sent = Vec::with_capacity(published.len());
    let mut records = Vec::with_capacity(published.len());
    let shared = SharedHeaders::of(context, at);
    for (index, outgoing) in published.into_iter().enumerate() {
        sent.push((outgoing.cause, index));
        let trace = cause_of(causes, outgoing.cause).map_or_else(Trace::start, |caused| caused.trace.clone());
        records.push(record(context, &shared, outgoing, index, &trace));
    }
    // Stable: the records of one cause stay in their order.
    sent.sort_by_key(|(cause, _)| *cause);
    (records, sent)
}

/// Values that all records of a unit share.
struct SharedHeaders {
    source: Bytes,
    time: Bytes,
}

impl SharedHeaders {
    fn of(context: &UnitContext<'_>, at: &str) -> Self {
        let source = format!("/saga-host/{}/{}", context.database, context.plugin);
        Self { source: source.into(), time: at.to_owned().into() }
    }
}

fn record(
    context: &UnitContext<'_>,
    shared: &SharedHeaders,
    outgoing: Outgoing,
    index: usize,
    trace: &Trace,
) -> Record {
    let id = format!("{}:{index}", context.unit);
    let partitions = context.topics.partitions(&outgoing.topic);
    let partition = match &outgoing.key {
        Some(key) => partition_of(key, partitions),
        None => i32::try_from(index).unwrap_or(0) % partitions.max(1),
    };
    let mut headers = Vec::with_capacity(7 + outgoing.headers.len());
    let mut add = |name: &'static str, value: Bytes| headers.push((Cow::Borrowed(name), value));
    add("ce_specversion", Bytes::from_static(b"1.0"));
    add("ce_type", outgoing.event_type.into());
    add("ce_source", shared.source.clone());
    add("ce_time", shared.time.clone());
    add("content-type", outgoing.content_type.into());
    add("traceparent", trace.child(span(&id)).into());
    if let Some(state) = trace.state() {
        add("tracestate", Bytes::copy_from_slice(state.as_bytes()));
    }
    add(MESSAGE_ID, id.into());
    headers.extend(outgoing.headers.into_iter().map(|(name, value)| (Cow::Owned(name), value.into())));
    Record {
        topic: outgoing.topic,
        partition,
        timestamp_ms: context.now_us / 1_000,
        key: outgoing.key.map(Bytes::from),
        payload: outgoing.payload.map(Bytes::from),
        headers,
    }
}

/// A span id that is the same when the record is sent again: FNV-1a of the message id.
fn span(id: &str) -> u64 {
    id.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
