//! The invariants of the order system, against a small run that went well and with one thing damaged after the
//! other.

use std::collections::BTreeMap;

use saga_devstack::{Stack, StackOptions};
use serde_json::{Value, json};

use super::archive::Archived;
use super::scratch::Scratch;
use super::{count, judge};
use crate::chaos::description::System;

const A: &str = "0193a1b2-0000-7000-8000-00000000000a";
const B: &str = "0193a1b2-0000-7000-8000-00000000000b";

/// All that the checks read.
#[derive(Clone)]
struct Run {
    records: Vec<Archived>,
    placed: Vec<(String, Value, Value)>,
    tables: BTreeMap<&'static str, Vec<Value>>,
}

fn record(topic: &str, id: &str, key: &str, value: &Value) -> Archived {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Archived {
        topic: topic.to_owned(),
        // In the order of their ids.
        offset: id.rsplit(':').nth(1).and_then(|unit| unit.parse().ok()).unwrap_or_default(),
        key: Some(key.to_owned()),
        value: Some(value),
        id: Some(id.to_owned()),
        ours: true,
        ..Archived::default()
    }
}

/// Of 5 pieces of product 7, A has 3, and B was refused 3.
fn good() -> Run {
    let order = |id: &str, status: &str| json!({"id": id, "product": 7, "qty": 3, "status": status});
    let orders = vec![order(A, "CONFIRMED"), order(B, "CANCELLED")];
    let created = |id: &str| json!({"orderId": id, "productId": 7, "orderQty": 3});
    let stock = |qty: i64| json!({"productId": 7, "currentQty": qty});
    let asked = |id: &str| json!({"id": id, "product": 7, "qty": 3});
    Run {
        records: vec![
            record("stock-created-topic", "d:1:1:1:0", "7", &stock(5)),
            record("order-created-topic", "o:1:1:1:0", A, &created(A)),
            record("order-created-topic", "o:1:1:2:0", B, &created(B)),
            record("inventory-deducted-topic", "d:1:1:2:0", A, &json!({"orderId": A})),
            record("stock-updated-topic", "d:1:1:2:1", "7", &stock(2)),
            record("inventory-deduction-rejected-topic", "d:1:1:3:0", B, &json!({"orderId": B})),
            record("order-notifications-topic", "o:2:1:1:0", A, &json!(format!("OrderConfirmed:{A}"))),
            record("order-notifications-topic", "o:2:1:2:0", B, &json!(format!("OrderCancelled:{B}"))),
        ],
        placed: vec![
            (A.to_owned(), asked(A), json!({"orderId": A, "orderStatus": "CONFIRMED"})),
            (B.to_owned(), asked(B), json!({"orderId": B})),
        ],
        tables: BTreeMap::from([
            ("orders", orders.clone()),
            ("order_views", orders),
            ("stocks", vec![json!({"product": 7, "qty": 2})]),
            ("stock_views", vec![json!({"product": 7, "qty": 2})]),
            ("stocks_shown", vec![stock(2)]),
            (
                "notifications",
                vec![
                    json!({"id": A, "message": format!("OrderConfirmed:{A}")}),
                    json!({"id": B, "message": format!("OrderCancelled:{B}")}),
                ],
            ),
            (
                "sagas",
                vec![json!({"id": A, "ending": "completed"}), json!({"id": B, "ending": "compensated"})],
            ),
            ("ignored", Vec::new()),
        ]),
    }
}

/// The names of the invariants and counts that fail.
async fn broken(postgres: &str, run: &Run) -> Vec<String> {
    let system = System::read("order").unwrap();
    let mut scratch = Scratch::create(postgres).await.unwrap();
    let setup = [(json!({"stock": 5}), json!({"productId": 7, "currentQty": 5}))];
    scratch.fill(&run.records, &run.placed, &setup).await.unwrap();
    for table in &system.tables {
        scratch
            .table(table, &Value::from(run.tables[table.name.as_str()].clone()).to_string())
            .await
            .unwrap();
    }
    for view in &system.views {
        scratch.view(view).await.unwrap();
    }
    let judged = judge(&mut scratch, &system).await.into_iter();
    let broken = judged.filter_map(|(name, held)| Some(format!("{name}: {:#}", held.err()?)));
    let counted = count(&mut scratch, &system).await.unwrap().into_iter();
    broken.chain(counted.filter(|(_, count)| *count > 0).map(|(of, count)| format!("{count} {of}"))).collect()
}

type Damage = fn(&mut Run);

/// What is damaged, and parts of the names of what must fail.
const DAMAGES: [(&[&str], Damage); 19] = [
    (&["1 lost", "each accepted order exists", "as many orders"], |run| {
        run.tables.get_mut("orders").unwrap().remove(1);
    }),
    (&["1 doubled", "as many orders as accepted"], |run| drop(run.placed.remove(1))),
    (&["1 lost", "one order-created"], |run| drop(run.records.remove(1))),
    (&["1 doubled", "either deducted or rejected"], |run| {
        run.records.push(record("inventory-deducted-topic", "d:1:1:9:0", A, &json!({"orderId": A})));
    }),
    (&["1 doubled", "either deducted or rejected"], |run| {
        run.records.push(record(
            "inventory-deduction-rejected-topic",
            "d:1:1:9:0",
            A,
            &json!({"orderId": A}),
        ));
    }),
    (&["1 lost", "notification service keeps it"], |run| {
        run.tables.get_mut("notifications").unwrap().remove(0);
    }),
    (&["1 doubled", "notification service keeps it"], |run| {
        let kept = run.tables.get_mut("notifications").unwrap();
        kept.push(kept[0].clone());
    }),
    (&["1 doubled", "one notification for each order"], |run| {
        run.records.push(record(
            "order-notifications-topic",
            "o:2:1:9:0",
            A,
            &json!(format!("OrderConfirmed:{A}")),
        ));
    }),
    (&["1 stuck", "every order has ended", "one saga, ended as"], |run| {
        run.tables.get_mut("orders").unwrap()[0]["status"] = json!("PENDING_CONFIRMATION");
        run.tables.get_mut("sagas").unwrap()[0]["ending"] = json!("");
    }),
    (&["one saga, ended as the order is"], |run| {
        run.tables.get_mut("sagas").unwrap()[0]["ending"] = json!("failed");
    }),
    (&["set by users - confirmed", "last stock record"], |run| {
        run.tables.get_mut("stocks").unwrap()[0]["qty"] = json!(1);
    }),
    (&["inventory-query equals", "GET /stocks shows"], |run| {
        run.tables.get_mut("stock_views").unwrap()[0]["qty"] = json!(5);
    }),
    (&["order-query equals"], |run| {
        run.tables.get_mut("order_views").unwrap()[0]["status"] = json!("CANCELLED");
    }),
    (&["repeated one has the same bytes"], |run| {
        run.records.push(Archived { content: 9, offset: 99, ..run.records[1].clone() });
    }),
    (&["records keep the contract"], |run| run.records[3].key = Some(B.to_owned())),
    (&["stock records of a product fall", "one stock-updated for each"], |run| {
        run.records.push(record(
            "stock-updated-topic",
            "d:1:1:9:1",
            "7",
            &json!({"productId": 7, "currentQty": 4}),
        ));
    }),
    (&["nothing names an order that does not exist"], |run| {
        run.tables.get_mut("sagas").unwrap().push(json!({"id": "gone", "ending": "completed"}));
    }),
    (&["nothing to do with it"], |run| {
        run.tables.get_mut("ignored").unwrap().push(json!({"plugin": "p", "reason": "was decided before"}));
    }),
    (&["ended as the answer to its request says"], |run| run.placed[0].2["orderStatus"] = json!("CANCELLED")),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_damage_breaks_what_it_must() {
    let folder = tempfile::tempdir().unwrap();
    let options = StackOptions {
        data: folder.path().to_owned(),
        fresh: false,
        postgres_port: None,
        kafka_port: None,
        kafka_listeners: Vec::new(),
    };
    let stack = Stack::start(options).await.unwrap();
    let postgres = stack.postgres_url();
    assert_eq!(broken(postgres, &good()).await, Vec::<String>::new());
    for (expected, damage) in DAMAGES {
        let mut run = good();
        damage(&mut run);
        let broken = broken(postgres, &run).await;
        for part in expected {
            assert!(broken.iter().any(|name| name.contains(part)), "{part:?} is not in {broken:#?}");
        }
    }
    stack.stop().await;
}
