//! The parts, each with as many messages as a unit of the order system.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use rdkafka::{
    Message, Timestamp,
    message::{Header, Headers as _, OwnedHeaders, OwnedMessage},
};
use saga_host::{
    claims::{partition::PartitionClaim, partitions::TopicPartition},
    ingress::kafka::record::{RawRecord, delivery},
    model::{
        dedup::DedupMarks,
        delivery::Delivery,
        effects::{Effects, Ending, Finish, Outgoing, Status, Transition},
        manifest::{Correlation, Subscription},
        partition_counts::{AgreedCount, PartitionCounts},
        record::{decode, encode},
        saga_log::Cause,
    },
    relay::order::{ReadyMax, Records, SendOrder},
    unit::{
        admit::{Admission, Work},
        materialize::{EffectCause, UnitContext, materialize},
        writes::UnitWrites,
    },
};

/// Messages of a unit.
pub(crate) const MESSAGES: usize = 256;
const PARTITIONS: i32 = 3;
const EPOCH: i64 = 1_795_375_680_123;
const NOW_US: i64 = EPOCH * 1_000;
const IDENTITY: &str = "6921f3c000c0ffee";
const TOPIC: &str = "inventory-deducted-topic";
const DIGEST: &str = "9c41e7a2b7c1d5f0e8a6b4c2d0f1e3a59c41e7a2b7c1d5f0e8a6b4c2d0f1e3a5";

/// Work on [`MESSAGES`] messages. Its preparation is not counted.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn() -> Box<dyn FnOnce()>,
}

/// In the order of the path.
pub(crate) const PARTS: [Part; 6] = [
    Part { name: "record", prepare: of_record },
    Part { name: "admit", prepare: of_admit },
    Part { name: "materialize", prepare: of_materialize },
    Part { name: "encode", prepare: of_encode },
    Part { name: "order", prepare: of_order },
    Part { name: "decode", prepare: of_decode },
];

/// Records of Kafka become deliveries: envelope, mark, correlation.
fn of_record() -> Box<dyn FnOnce()> {
    let (records, topic, subscription) = (kafka_records(), Arc::from(TOPIC), subscription());
    Box::new(move || {
        for record in &records {
            black_box(read(record, &subscription, &topic));
        }
    })
}

fn read(record: &OwnedMessage, subscription: &Subscription, topic: &Arc<str>) -> Delivery {
    let raw = RawRecord {
        partition: record.partition(),
        offset: record.offset(),
        timestamp_ms: record.timestamp().to_millis(),
        key: record.key(),
        payload: record.payload(),
    };
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.map(|header| (header.key.as_bytes(), header.value));
    delivery(raw, Ok(headers), subscription, topic, EPOCH)
}

/// Decides the disposition of each delivery, and how the partition claims advance.
fn of_admit() -> Box<dyn FnOnce()> {
    let work: Vec<Work> = deliveries().into_iter().map(|delivery| Work { delivery, parking: None }).collect();
    let claims = claims();
    Box::new(move || drop(black_box(Admission::decide(&work, &claims))))
}

/// Turns effects into records and rows: one message and one step of a saga for each delivery.
fn of_materialize() -> Box<dyn FnOnce()> {
    let (effects, deliveries, topics) = (effects(), deliveries(), topics());
    Box::new(move || {
        let causes: Vec<EffectCause<'_>> = deliveries.iter().map(caused).collect();
        let mut writes = UnitWrites::default();
        black_box(materialize(&unit_context(&topics), effects, &causes, &mut writes));
        black_box(writes);
    })
}

/// Encodes the records of a unit into the body of its outbox row.
fn of_encode() -> Box<dyn FnOnce()> {
    let records = outbox_records();
    Box::new(move || drop(black_box(encode(&records).unwrap())))
}

/// Decodes that body, as after a restart.
fn of_decode() -> Box<dyn FnOnce()> {
    let body = encode(&outbox_records()).unwrap();
    Box::new(move || drop(black_box(decode(&body).unwrap())))
}

/// Sends as many units through the relay's order as the other parts have messages.
fn of_order() -> Box<dyn FnOnce()> {
    let mut order = SendOrder::new(ReadyMax { units: MESSAGES, bytes: 1 << 30 });
    order.lead();
    order.set_has_peers(false);
    let begun_at = order.begin_snapshot();
    order.snapshot(begun_at, vec![(0, Records::default())], true);
    order.take_next().unwrap();
    order.acknowledged(0);
    let records = Records::default();
    Box::new(move || {
        for seq in 1..=MESSAGES as i64 {
            let unit = (3, EPOCH, seq);
            order.register(seq, unit);
            order.committed(seq, unit, records.clone());
            let (sent, records) = order.take_next().expect("it may leave at once");
            black_box(records);
            order.acknowledged(sent);
        }
    })
}

fn order_id(number: usize) -> String {
    format!("0193a1b2-0000-7000-8000-{number:012x}")
}

fn kafka_records() -> Vec<OwnedMessage> {
    (0..MESSAGES).map(kafka_record).collect()
}

/// As inventory-command publishes it.
fn kafka_record(number: usize) -> OwnedMessage {
    let id = order_id(number);
    let headers = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_type", "inventory-deducted".to_owned()),
        ("ce_source", "/saga-host/cmd-inventory/inventory-command".to_owned()),
        ("ce_time", "2026-11-22T19:28:00.123Z".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ("ce_id", format!("{IDENTITY}:2:{EPOCH}:17:{number}")),
        ("ce_sequence", format!("{IDENTITY}-{:020}-{number:05}", 17)),
    ];
    let add =
        |all: OwnedHeaders, (key, value): &(&str, String)| all.insert(Header { key, value: Some(value) });
    OwnedMessage::new(
        Some(
            format!(
                r#"{{"orderId":"{id}","productId":7,"orderQty":2,"timestamp":"2026-11-22T19:28:00.123Z"}}"#
            )
            .into(),
        ),
        Some(id.into_bytes()),
        TOPIC.to_owned(),
        Timestamp::CreateTime(NOW_US / 1_000),
        partition(number),
        offset(number),
        Some(headers.iter().fold(OwnedHeaders::new(), add)),
    )
}

fn partition(number: usize) -> i32 {
    i32::try_from(number).unwrap() % PARTITIONS
}

fn offset(number: usize) -> i64 {
    number as i64 / i64::from(PARTITIONS)
}

fn subscription() -> Subscription {
    Subscription {
        topic: TOPIC.to_owned(),
        correlation: Correlation::Json("/orderId".to_owned()),
        foreign_ids: false,
    }
}

fn deliveries() -> Vec<Delivery> {
    let (topic, subscription) = (Arc::from(TOPIC), subscription());
    kafka_records().iter().map(|record| read(record, &subscription, &topic)).collect()
}

fn claims() -> HashMap<TopicPartition, PartitionClaim> {
    let source = |partition| PartitionClaim {
        id: partition,
        topic: Arc::from(TOPIC),
        partition,
        epoch: EPOCH,
        next_offset: 0,
        stored_offset: 0,
        dedup_marks: DedupMarks::default(),
        parked: HashMap::new(),
    };
    (0..PARTITIONS).map(|partition| ((Arc::from(TOPIC), partition), source(partition))).collect()
}

fn topics() -> PartitionCounts {
    let topics = PartitionCounts::default();
    topics.set(TOPIC, AgreedCount { partitions: PARTITIONS, version: 1 });
    topics
}

fn unit_context(topics: &PartitionCounts) -> UnitContext<'_> {
    let unit = format!("{IDENTITY}:3:{EPOCH}:18");
    UnitContext { unit, database: "cmd-order", plugin: "order-orchestrator", now_us: NOW_US, topics }
}

fn caused(delivery: &Delivery) -> EffectCause<'_> {
    let cause = Cause {
        kind: "kafka".into(),
        id: delivery.id.as_str().into(),
        topic: Some(TOPIC.into()),
        partition: Some(0),
        offset: Some(Some(0)),
    };
    EffectCause { cause, digest: DIGEST, trace: delivery.trace.clone() }
}

/// As the orchestrator ends an order.
fn effects() -> Effects {
    let mut effects = Effects::default();
    for number in 0..MESSAGES {
        let (cause, key) = (u32::try_from(number).unwrap(), order_id(number));
        effects.published.push(Outgoing {
            cause,
            topic: "order-notifications-topic".to_owned(),
            key: Some(key.clone().into_bytes()),
            event_type: "order-notification".to_owned(),
            content_type: "text/plain".to_owned(),
            headers: Vec::new(),
            payload: Some(format!("Order {key} confirmed").into_bytes()),
        });
        effects.transitions.push(Transition {
            cause,
            saga_type: "order".to_owned(),
            key,
            expected_revision: 1,
            event: "ORDER_CONFIRMED".to_owned(),
            state: "CONFIRMED".to_owned(),
            data: None,
            status: Status::Finished(Finish {
                ending: Ending::Completed,
                answer: Some(r#"{"orderStatus":"CONFIRMED"}"#.to_owned()),
            }),
        });
    }
    effects
}

fn outbox_records() -> Records {
    let (deliveries, topics) = (deliveries(), topics());
    let causes: Vec<EffectCause<'_>> = deliveries.iter().map(caused).collect();
    materialize(&unit_context(&topics), effects(), &causes, &mut UnitWrites::default()).records
}
