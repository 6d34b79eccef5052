//! Topics change while plugins use them: partitions are added, a topic is deleted and created again.

use std::collections::BTreeSet;

use anyhow::ensure;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use saga_testkit::{
    caller::Request,
    service::ORDER_CREATED,
    target::Target,
    topic::writer::{Draft, Writer},
};

use crate::support::{
    SOON, eventually, flow, folder,
    guest::{self, DONE, TOPIC},
    host,
    stack::Own,
};

const FINE: &str = "fine";
const PARTITIONS: i32 = 12;

fn admin(target: &Target) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &target.kafka).create().unwrap()
}

async fn create(target: &Target, topic: &str, partitions: i32) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    eventually(async || {
        let created = admin(target).create_topics([&new], &AdminOptions::new()).await?;
        ensure!(created.iter().all(Result::is_ok), "{created:?}");
        Ok(())
    })
    .await;
}

async fn delete(target: &Target, topic: &str) {
    let deleted = admin(target).delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

async fn add_partitions(target: &Target, topic: &str) {
    let more = NewPartitions::new(topic, PARTITIONS as usize);
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    let added = admin(target).create_partitions([&more], &options).await.unwrap();
    assert!(added.iter().all(Result::is_ok), "{added:?}");
}

/// Writes records to one partition, again while the client does not know the partition yet.
async fn write(target: &Target, count: usize, partition: i32) {
    let writer = Writer::new(&target.kafka).unwrap();
    for _ in 0..count {
        let draft = Draft { partition: Some(partition), ..Draft::text(FINE) };
        eventually(async || writer.write(TOPIC, &draft).await).await;
    }
}

async fn handled(target: &Target, expected: u64) {
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done == expected, "{done} records are handled instead of {expected}");
        Ok(())
    })
    .await;
}

fn guest_alone(start: &str) -> std::path::PathBuf {
    let plugins = folder::new("plugins");
    guest::add(&plugins);
    let policy = guest::POLICY.replace("[kafka]\n", &format!("[kafka]\nstart = \"{start}\"\n"));
    std::fs::write(plugins.join("misbehaving.toml"), policy).unwrap();
    plugins
}

/// The new topic is longer than the old position, which by itself looks valid.
#[tokio::test]
async fn a_topic_that_was_created_again_is_read_from_its_beginning() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = guest_alone("earliest");
    let host = host::run(target, &plugins).await;
    write(target, 3, 0).await;
    handled(target, 3).await;
    host.stop().await;
    delete(target, TOPIC).await;
    create(target, TOPIC, 3).await;
    write(target, 5, 0).await;
    let _host = host::run(target, &plugins).await;
    handled(target, 3 + 5).await;
}

#[tokio::test]
async fn a_topic_is_created_again_while_it_is_read() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &guest_alone("earliest")).await;
    write(target, 3, 0).await;
    handled(target, 3).await;
    delete(target, TOPIC).await;
    create(target, TOPIC, 3).await;
    write(target, 5, 0).await;
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done >= 3 + 5, "{done} records are handled");
        Ok(())
    })
    .await;
    host::ready(target).await;
}

/// The plugin begins at the latest records, but what is written to a new partition before its claim is new.
#[tokio::test]
async fn an_added_partition_is_read_from_its_beginning() {
    let stack = Own::start().await;
    let target = &stack.target;
    create(target, TOPIC, 3).await;
    write(target, 2, 0).await;
    let _host = host::run(target, &guest_alone("latest")).await;
    eventually(async || {
        let claimed = "SELECT count(*) FROM saga.partition_claim WHERE next_offset >= 0";
        let count: i64 = sqlx::query_scalar(claimed).fetch_one(&mut guest::database(target).await).await?;
        ensure!(count == 3, "{count} partitions are claimed");
        Ok(())
    })
    .await;
    add_partitions(target, TOPIC).await;
    write(target, 4, PARTITIONS - 1).await;
    handled(target, 4).await;
}

/// Both hosts commit orders before and after; no lane commits under the old count after the change.
#[tokio::test]
async fn all_hosts_of_a_database_send_a_key_to_one_partition_after_partitions_were_added() {
    let stack = Own::start().await;
    let (first, second) = (&stack.target, &host::addressed(&stack.target));
    let plugins = folder::plugins(&[]);
    let _hosts = (host::run(first, &plugins).await, host::run(second, &plugins).await);
    let product = flow::product(first, 100).await;
    let order = async |target: &Target| {
        let body = format!(r#"{{"productId":{product},"orderQty":1}}"#);
        let order = Request::post("/orders", body).header("Prefer", "wait=30");
        let reply = order.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
        reply.member("orderId").unwrap().as_str().unwrap().to_owned()
    };
    order(first).await;
    order(second).await;
    add_partitions(first, ORDER_CREATED).await;
    let agreed = "SELECT partitions::bigint FROM saga.topic WHERE topic = 'order-created-topic'";
    flow::reaches(first, "cmd-order", agreed, i64::from(PARTITIONS)).await;
    let mut later = BTreeSet::new();
    for target in [first, second].into_iter().cycle().take(12) {
        later.insert(order(target).await);
    }
    let brokers = first.kafka.clone();
    let read = move || {
        let mut places = Vec::new();
        saga_testkit::topic::reader::read_all(&brokers, &[ORDER_CREATED], |record| {
            let key = String::from_utf8(record.key.unwrap_or_default()).unwrap_or_default();
            places.push((key, record.partition));
        })?;
        Ok(places)
    };
    let places = saga_testkit::topic::blocking(read).await.unwrap();
    let places: Vec<_> = places.into_iter().filter(|(key, _)| later.contains(key)).collect();
    assert_eq!(places.len(), later.len());
    for (key, partition) in places {
        assert_eq!(partition, saga_host::model::record::partition_of(key.as_bytes(), PARTITIONS), "{key}");
    }
}
