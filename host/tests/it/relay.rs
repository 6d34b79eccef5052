//! The relay, when Kafka refuses records for good or for a while, is out of reach, or is out of reach for one
//! host alone.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, ensure};
use saga_host::model::record::{Record, encode};
use saga_testkit::{
    caller::Request,
    database::Databases,
    process::peak_bytes,
    service::{STOCK_CREATED, STOCK_UPDATED},
    target::Target,
    topic::{self, reader},
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    eventually, flow, folder,
    host::{self, Host, get},
    kafka_proxy::KafkaProxy,
    stack::Own,
    topics,
};

const PLUGIN: &str = "inventory-command";
const DATABASE: &str = "cmd-inventory";
const OUTBOX: &str = "SELECT count(*) FROM saga.outbox";
const PARKED: &str = "SELECT count(*) FROM saga.parked WHERE direction = 'out'";
const EPOCH: &str = "SELECT epoch FROM saga.lane WHERE slot = 0";
/// The setting of a topic that limits a batch of records.
const BATCH_MAX: &str = "max.message.bytes";
/// Above the size of one record of a stock, far below that of a batch.
const ONE_RECORD: &str = "1000";
const NO_RECORD: &str = "100";
/// Of a topic that the host creates.
const PARTITIONS: i32 = 6;

async fn start(target: &Target) -> Host {
    host::run(target, &folder::plugins(&[PLUGIN])).await
}

/// Sets the quantity of a product, which publishes a record with its key.
async fn update(target: &Target, product: i64, qty: usize) {
    let request = Request::new("PATCH", format!("/stocks/{product}?qty={qty}"));
    request.send(target.http().unwrap()).await.unwrap().expect(200).unwrap();
}

/// The quantities in a topic by key, in their order, without repeats of a record.
async fn quantities(target: &Target, topic: &'static str) -> anyhow::Result<BTreeMap<String, Vec<i64>>> {
    let brokers = target.kafka.clone();
    topic::blocking(move || {
        let (mut quantities, mut seen) = (BTreeMap::<_, Vec<i64>>::new(), HashSet::new());
        reader::read_all(&brokers, &[topic], |record| {
            if seen.insert(record.header("ce_id").unwrap_or_default().to_owned()) {
                let value: Value = serde_json::from_str(record.text()).unwrap();
                let of_key = quantities.entry(record.key_text().unwrap_or_default().to_owned()).or_default();
                of_key.push(value["currentQty"].as_i64().unwrap());
            }
        })?;
        Ok(quantities)
    })
    .await
}

/// Waits until the outbox is empty.
async fn published(target: &Target) {
    let databases = Databases::new(&target.postgres).unwrap();
    eventually(async || {
        let left = databases.count(DATABASE, OUTBOX).await?;
        ensure!(left == 0, "{left} units are in the outbox");
        Ok(())
    })
    .await;
    databases.close().await;
}

/// The parked entries that wait for a person.
async fn dead_letters(target: &Target) -> anyhow::Result<Vec<Value>> {
    let shown = get(target, "/v1/parked?state=dead_letter").await?;
    shown["parked"].as_array().cloned().context("no list")
}

async fn execute(target: &Target, statement: &'static str, body: &[u8]) {
    let databases = Databases::new(&target.postgres).unwrap();
    sqlx::query(statement).bind(body).execute(databases.of(DATABASE).unwrap()).await.unwrap();
    databases.close().await;
}

/// The broker refuses most batches of several records, and none of the records.
#[tokio::test]
async fn a_batch_that_is_refused_condemns_none_of_its_records() {
    const PRODUCTS: usize = 20;
    const UPDATES: usize = 20;
    let stack = Own::start().await;
    let target = &stack.target;
    topics::create(target, STOCK_UPDATED, 1, &[(BATCH_MAX, ONE_RECORD)]).await;
    let _host = start(target).await;
    let mut products = JoinSet::new();
    for _ in 0..PRODUCTS {
        let target = target.clone();
        products.spawn(async move {
            let product = flow::product(&target, 1).await;
            for qty in 1..=UPDATES {
                update(&target, product, qty).await;
            }
        });
    }
    products.join_all().await;
    published(target).await;
    assert_eq!(flow::count(target, DATABASE, PARKED).await, 0);
    let found = quantities(target, STOCK_UPDATED).await.unwrap();
    let expected: Vec<i64> = (1..=UPDATES as i64).collect();
    assert_eq!(found.len(), PRODUCTS);
    assert!(found.values().all(|of_key| *of_key == expected), "{found:?}");
    host::ready(target).await;
}

/// More records of one key than one redrive reads, and more of them while they are sent.
#[tokio::test]
async fn redriven_records_of_a_key_keep_their_order_under_traffic() {
    const BEFORE: usize = 1_200;
    const ALL: usize = 1_500;
    let stack = Own::start().await;
    let target = &stack.target;
    topics::create(target, STOCK_UPDATED, 1, &[(BATCH_MAX, NO_RECORD)]).await;
    let _host = start(target).await;
    let product = flow::product(target, 1).await;
    for qty in 1..=BEFORE {
        update(target, product, qty).await;
    }
    published(target).await;
    // One is refused, and the others are queued behind it.
    let attempts = async || {
        let refused = dead_letters(target).await?;
        ensure!(refused.len() == 1, "{refused:?}");
        refused[0]["attempts"].as_i64().context("no number")
    };
    assert_eq!(attempts().await.unwrap(), 1);
    assert_eq!(flow::count(target, DATABASE, PARKED).await, BEFORE as i64);
    host::cli(target, &["redrive", "--all"]);
    eventually(async || {
        let attempts = attempts().await?;
        ensure!(attempts == 2, "{attempts} attempts");
        Ok(())
    })
    .await;
    assert_eq!(flow::count(target, DATABASE, PARKED).await, BEFORE as i64);

    topics::set(target, STOCK_UPDATED, BATCH_MAX, "1000000").await;
    let traffic = async {
        for qty in BEFORE + 1..=ALL {
            update(target, product, qty).await;
        }
    };
    let redriven = eventually(async || {
        host::cli(target, &["redrive", "--all"]);
        let left = flow::count(target, DATABASE, PARKED).await;
        ensure!(left == 0, "{left} records are parked");
        Ok(())
    });
    tokio::join!(traffic, redriven);
    published(target).await;
    let found = quantities(target, STOCK_UPDATED).await.unwrap();
    assert_eq!(found[&product.to_string()], (1..=ALL as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_topic_that_is_gone_holds_back_only_its_own_records() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = start(target).await;
    let product = flow::product(target, 1).await;
    update(target, product, 1).await;
    published(target).await;
    topics::delete(target, STOCK_UPDATED).await;
    // The broker may accept the first ones, just before it deletes the topic.
    let mut last = 1;
    eventually(async || {
        last += 1;
        update(target, product, last).await;
        let answer = Request::get("/readyz").send(target.admin()?).await?.expect(503)?.text();
        ensure!(answer.contains("records of topic stock-updated-topic"), "{answer}");
        Ok(())
    })
    .await;
    let created = flow::records(target, STOCK_CREATED).await;
    flow::product(target, 1).await;
    eventually(async || {
        ensure!(flow::records(target, STOCK_CREATED).await > created, "the other topic waits, too");
        Ok(())
    })
    .await;
    let waiting = host::metric(target, "relay_waiting_partitions", "stock-updated-topic").await.unwrap();
    assert!(waiting >= 1.0);

    topics::create(target, STOCK_UPDATED, PARTITIONS, &[]).await;
    last += 1;
    update(target, product, last).await;
    published(target).await;
    let found = quantities(target, STOCK_UPDATED).await.unwrap();
    let found = &found[&product.to_string()];
    assert!(found.len() > 2, "{found:?}");
    assert_eq!(*found, (found[0]..=last as i64).collect::<Vec<_>>());
    assert_eq!(flow::count(target, DATABASE, PARKED).await, 0);
    host::ready(target).await;
}

/// The records wait in the outbox for longer than their topic lets a record be old.
#[tokio::test]
async fn a_record_whose_timestamp_is_refused_is_sent_with_the_present_time() {
    let stack = Own::start().await;
    let target = &stack.target;
    let oldest = [("message.timestamp.before.max.ms", "1000")];
    topics::create(target, STOCK_CREATED, 1, &oldest).await;
    let plugins = folder::plugins(&[PLUGIN]);
    let doomed = host::spawn_with_fault(target, &plugins, "after-commit-before-publish");
    let create = eventually(async || {
        let created = Request::post("/stocks", r#"{"qty":7}"#).send(target.http()?).await;
        anyhow::Result::<()>::Err(anyhow::anyhow!("the host lives: {created:?}"))
    });
    tokio::select! {
        () = doomed.dies() => {}
        () = create => {}
    }
    assert!(flow::count(target, DATABASE, OUTBOX).await > 0);
    let _host = host::run(target, &plugins).await;
    published(target).await;
    assert_eq!(flow::count(target, DATABASE, PARKED).await, 0);
    assert!(flow::records(target, STOCK_CREATED).await > 0);
    host::ready(target).await;
    // A broker that restarts has been seen to keep the setting for the next topic of this name.
    topics::set(target, STOCK_CREATED, oldest[0].0, "9223372036854775807").await;
}

#[tokio::test]
async fn a_unit_that_cannot_be_decoded_is_parked_alone() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = start(target).await;
    let damaged = "INSERT INTO saga.outbox (seq, slot, epoch, unit, body)
                   VALUES (nextval('saga.outbox_seq'), 0, 0, 0, $1)";
    execute(target, damaged, b"damaged").await;
    flow::product(target, 1).await;
    published(target).await;
    let shown = dead_letters(target).await.unwrap();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!(shown[0]["direction"], "out");
    eventually(async || {
        let found = quantities(target, STOCK_CREATED).await?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_unit_of_a_later_build_is_waited_for() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = start(target).await;
    let later = "INSERT INTO saga.outbox (seq, slot, epoch, unit, body)
                 VALUES (nextval('saga.outbox_seq'), 0, 0, 0, $1)";
    execute(target, later, b"\xff\xff\xff\xff\x63 of format 99").await;
    host::not_ready(target, "was written by a later build").await;
    assert_eq!(flow::count(target, DATABASE, "SELECT count(*) FROM saga.outbox").await, 1);
    assert_eq!(dead_letters(target).await.unwrap().len(), 0);
    execute(target, "DELETE FROM saga.outbox WHERE body = $1", b"\xff\xff\xff\xff\x63 of format 99").await;
    host::ready(target).await;
    flow::product(target, 1).await;
    published(target).await;
}

/// 240 units of 12 MB each, for a topic that does not exist.
#[tokio::test]
async fn the_memory_of_the_relay_is_bounded_and_its_lease_is_kept() {
    const UNITS: usize = 240;
    const RECORDS: usize = 12;
    const PEAK_MAX: u64 = 512 << 20;
    let stack = Own::start().await;
    let target = &stack.target;
    let host = start(target).await;
    host.stop().await;
    let record = Record {
        topic: "nowhere-topic".to_owned(),
        partition: 0,
        timestamp_ms: 0,
        key: None,
        payload: Some(vec![0; 1_000_000].into()),
        headers: Vec::new(),
    };
    let body = encode(&vec![record; RECORDS]).unwrap();
    let large = "INSERT INTO saga.outbox (seq, slot, epoch, unit, body)
                 SELECT nextval('saga.outbox_seq'), 0, 0, 0, $1 FROM generate_series(1, 240)";
    execute(target, large, &body).await;
    let host = host::spawn(target, &folder::plugins(&[PLUGIN]));
    host::not_ready(target, "records of topic nowhere-topic").await;
    let epoch = flow::count(target, DATABASE, EPOCH).await;
    flow::product(target, 1).await;
    host::not_ready(target, "records of topic nowhere-topic").await;
    assert_eq!(flow::count(target, DATABASE, EPOCH).await, epoch, "the lease was lost");
    let peak = host.id().and_then(peak_bytes).unwrap();
    assert!(peak <= PEAK_MAX, "{} MiB", peak >> 20);
    assert!(flow::count(target, DATABASE, OUTBOX).await >= UNITS as i64);
    host.kill().await;
}

/// The log has one line when Kafka goes away, and one when it is back.
#[tokio::test]
async fn an_outage_of_kafka_is_two_lines_of_the_relay() {
    let mut stack = Own::start().await;
    let (_host, log) = host::run_logging_lanes(&stack.target, &folder::plugins(&[PLUGIN])).await;
    let product = flow::product(&stack.target, 1).await;
    stack.restart().await;
    eventually(async || {
        let request = Request::new("PATCH", format!("/stocks/{product}?qty=2"));
        request.send(stack.target.http()?).await?.expect(200)
    })
    .await;
    published(&stack.target).await;
    let read = || std::fs::read_to_string(&log).unwrap();
    // The client may need another moment to see that Kafka answers again.
    eventually(async || {
        let log = read();
        let lines = |text: &str| {
            log.lines().filter(|line| line.contains(text) && line.contains("client=relay of")).count()
        };
        ensure!((lines("Kafka is unreachable"), lines("Kafka answers again")) == (1, 1), "{log}");
        Ok(())
    })
    .await;
    let log = read();
    assert!(!log.contains("FATAL"), "{log}");
}

/// Both hosts run; the path from the leader to Kafka is cut.
#[tokio::test]
async fn a_leader_that_is_cut_off_from_kafka_gives_up_the_lead() {
    let stack = Own::start().await;
    let (proxy, first) = KafkaProxy::before(&stack.target).await;
    let second = host::addressed(&stack.target);
    let plugins = folder::plugins(&[PLUGIN]);
    let leader = host::run(&first, &plugins).await;
    let _other = host::run(&second, &plugins).await;
    let product = flow::product(&first, 1).await;
    published(&first).await;
    assert_eq!(host::metric(&first, "relay_leads", DATABASE).await.unwrap(), 1.0);
    let epoch = flow::count(&first, DATABASE, EPOCH).await;
    proxy.cut();
    for qty in 1..=3 {
        update(&first, product, qty).await;
    }
    published(&second).await;
    assert_eq!(host::metric(&second, "relay_leads", DATABASE).await.unwrap(), 1.0);
    assert!(flow::count(&second, DATABASE, EPOCH).await > epoch);
    let found = quantities(&second, STOCK_UPDATED).await.unwrap();
    assert_eq!(found[&product.to_string()], [1, 2, 3]);
    leader.kill().await;
}

/// Its broker does not answer, and no other host is there.
#[tokio::test]
async fn a_leader_without_another_host_keeps_the_lead() {
    let stack = Own::start().await;
    let (proxy, target) = KafkaProxy::before(&stack.target).await;
    let host = host::run(&target, &folder::plugins(&[PLUGIN])).await;
    let product = flow::product(&target, 1).await;
    published(&target).await;
    let epoch = flow::count(&target, DATABASE, EPOCH).await;
    proxy.cut();
    update(&target, product, 1).await;
    host::not_ready(&target, "records of topic stock-updated-topic").await;
    assert_eq!(host::metric(&target, "relay_leads", DATABASE).await.unwrap(), 1.0);
    assert_eq!(flow::count(&target, DATABASE, EPOCH).await, epoch);
    host.kill().await;
}
