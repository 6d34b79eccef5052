//! What enters by Kafka: any record is delivered or parked, a part that ends is started again, and a trouble
//! concerns only what it is about and ends by itself.

use anyhow::{Context, ensure};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use saga_testkit::{
    target::Target,
    topic::writer::{Draft, Writer},
};

use crate::support::{
    SOON,
    database::Database,
    eventually,
    flow::{self, Products},
    folder,
    guest::{self, DONE, PLUGIN, TOPIC},
    host::{self, get},
    raw,
    stack::Own,
};

const FINE: &str = "fine";

/// A plugin folder with the tests' own plugin alone, which answers each record with a message.
fn guest_alone() -> std::path::PathBuf {
    let plugins = folder::new("plugins");
    guest::add(&plugins);
    plugins
}

async fn handled(target: &Target, expected: u64) {
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done == expected, "{done} records are handled instead of {expected}");
        Ok(())
    })
    .await;
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test]
async fn a_record_of_any_bytes_in_any_codec_is_delivered() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &guest_alone()).await;
    let brokers = target.kafka.clone();
    let names: [&[u8]; 4] = [&[0xff, 0xfe], b"\xc3\x28", b"", b"a\0b"];
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    blocking(move || {
        names.iter().for_each(|name| raw::with_header_name(&brokers, TOPIC, name, FINE));
        codecs.iter().for_each(|codec| raw::with(&brokers, &[("compression.type", codec)], TOPIC, FINE));
    })
    .await;
    let writer = Writer::new(&target.kafka).unwrap();
    let drafts = [
        Draft { timestamp_ms: Some(0), ..Draft::text("\u{0}\u{ffff}") },
        Draft {
            value: Some(vec![0xff; 9]),
            headers: vec![("ce_id".into(), "a\nb:1:2:3:4".into())],
            ..Draft::default()
        },
        Draft {
            key: Some("\u{0}".into()),
            headers: vec![("traceparent".into(), "\u{0}".into())],
            ..Draft::default()
        },
    ];
    for draft in drafts {
        writer.write(TOPIC, &draft).await.unwrap();
    }
    handled(target, 4 + 5 + 3).await;
    host::ready(target).await;
}

#[tokio::test]
async fn a_value_without_a_clear_key_is_parked_with_the_reason() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &folder::plugins(&["inventory-command"])).await;
    let writer = Writer::new(&target.kafka).unwrap();
    let order = r#"{"orderId":"0193a1b2-0000-7000-8000-000000000001","productId":1,"orderQty":1}"#;
    let twice = order.replacen('{', r#"{"orderId":"0193a1b2-0000-7000-8000-000000000002","#, 1);
    let values = [
        ([b"\xef\xbb\xbf", order.as_bytes()].concat(), "starts with a byte order mark"),
        ([b"\0\0\0\0\x07", order.as_bytes()].concat(), "framed for a schema registry (schema 7)"),
        (twice.into_bytes(), "the member \"orderId\" occurs twice"),
        (br#"{"orderId":18446744073709551616.0}"#.to_vec(), "has a fraction or an exponent"),
        (b"{\"orderId\":\"a\",\"b\":\"\xff\"}".to_vec(), "is not UTF-8"),
        (b"OrderConfirmed:1".to_vec(), "its value is not JSON"),
    ];
    for (value, _) in &values {
        let draft = Draft { value: Some(value.clone()), partition: Some(0), ..Draft::default() };
        writer.write("order-created-topic", &draft).await.unwrap();
    }
    let parked = eventually(async || {
        let shown = get(target, "/v1/parked?plugin=inventory-command").await?;
        let parked = shown["parked"].as_array().context("no list")?.clone();
        ensure!(parked.len() == values.len(), "{} parked: {shown}", parked.len());
        Ok(parked)
    })
    .await;
    for ((_, reason), (entry, offset)) in values.iter().zip(parked.iter().rev().zip(0..)) {
        let says = entry["reason"].as_str().unwrap();
        let place = format!("order-created-topic/0/{offset} is not delivered: ");
        assert!(says.starts_with(&place) && says.contains(reason), "{says} instead of {reason}");
        assert_eq!(entry["state"], "dead_letter");
    }
}

#[tokio::test]
async fn a_consumer_that_panics_is_shown_and_started_again() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::spawn_with_fault(target, &guest_alone(), "panic:record-read");
    host::ready(target).await;
    Writer::new(&target.kafka).unwrap().write(TOPIC, &Draft::text(FINE)).await.unwrap();
    host::not_ready(target, "consumer of misbehaving: it has ended and is started again: it panicked").await;
    handled(target, 1).await;
    host::ready(target).await;
}

/// A lane panics in its unit: nothing of the unit is lost or done twice.
#[tokio::test]
async fn a_lane_that_panics_is_started_again_and_loses_nothing() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::spawn_with_fault(target, &folder::plugins(&[]), "panic:before-commit:4");
    host::ready(target).await;
    let products = Products::new(target).await;
    flow::all_accepted(products.place(target)).await;
    flow::ends_as_expected(target).await;
    host::ready(target).await;
}

/// No record arrives after the outage.
#[tokio::test]
async fn a_host_is_ready_again_without_traffic_after_an_outage() {
    let mut stack = Own::start().await;
    let _host = host::run(&stack.target, &folder::plugins(&[])).await;
    stack.restart().await;
    host::ready(&stack.target).await;
    let products = Products::new(&stack.target).await;
    flow::all_accepted(products.place(&stack.target)).await;
    flow::ends_as_expected(&stack.target).await;
}

const DAMAGE: &str = "UPDATE saga.partition_claim SET dedup_marks = 'damaged' WHERE partition = 0";
const REPAIR: &str = "UPDATE saga.partition_claim SET dedup_marks = '' WHERE partition = 0";

async fn execute(target: &Target, statement: &'static str) {
    let mut database = guest::database(target).await;
    let done = sqlx::query(statement).execute(&mut database).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{statement}");
}

#[tokio::test]
async fn a_partition_that_cannot_be_claimed_concerns_itself_alone_and_is_read_once_it_can() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = guest_alone();
    let writer = Writer::new(&target.kafka).unwrap();
    let write = async |partition| {
        let draft = Draft { partition: Some(partition), ..Draft::text(FINE) };
        writer.write(TOPIC, &draft).await.unwrap();
    };
    let host = host::run(target, &plugins).await;
    write(0).await;
    handled(target, 1).await;
    host.stop().await;
    execute(target, DAMAGE).await;
    let _host = host::spawn(target, &plugins);
    write(0).await;
    write(1).await;
    host::not_ready(target, "misbehaviour-topic/0").await;
    handled(target, 2).await;
    execute(target, REPAIR).await;
    handled(target, 3).await;
    host::ready(target).await;
}

/// The lag of the plugin's group in partition 0, from what it has committed.
fn lag(brokers: &str) -> anyhow::Result<i64> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", PLUGIN).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    let committed = consumer.committed_offsets(list, SOON)?;
    let committed = committed.find_partition(TOPIC, 0).map(|element| element.offset());
    let Some(Offset::Offset(committed)) = committed else { anyhow::bail!("nothing is committed") };
    Ok(consumer.fetch_watermarks(TOPIC, 0, SOON)?.1 - committed)
}

#[tokio::test]
async fn the_end_of_a_transaction_leaves_no_lag() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &guest_alone()).await;
    let brokers = target.kafka.clone();
    blocking(move || raw::with(&brokers, &[("transactional.id", "a-producer")], TOPIC, FINE)).await;
    handled(target, 1).await;
    eventually(async || {
        let brokers = target.kafka.clone();
        let lag = tokio::task::spawn_blocking(move || lag(&brokers)).await??;
        ensure!(lag == 0, "the lag is {lag}");
        Ok(())
    })
    .await;
}

const QUEUE_BYTES_MAX: usize = 32 << 10;
const RECORD_BYTES: usize = 4 << 10;
const BACKLOG: u64 = 150;
/// Records that wait for a locked row, each for some seconds at most.
const WAITING: u64 = 12;

/// The lane waits while a backlog comes in. Then it works, and its version changes.
#[tokio::test]
async fn the_queue_of_a_lane_never_exceeds_its_bound_by_more_than_one_record() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = guest_alone();
    let limits = format!("[limits]\nqueue_bytes_max = {QUEUE_BYTES_MAX}\nbatch_deliveries_max = 4\n");
    let policy =
        guest::POLICY.replace("[limits]\n", &limits).replace("unit_ms_max = 1000", "unit_ms_max = 6000");
    std::fs::write(plugins.join("misbehaving.toml"), policy).unwrap();
    let _host = host::run(target, &plugins).await;
    let mut person = Database::connect(target, PLUGIN).await;
    person.run("BEGIN; UPDATE public.account SET moves = moves WHERE id = 6").await;
    let writer = Writer::new(&target.kafka).unwrap();
    for _ in 0..WAITING {
        writer.write(TOPIC, &Draft { partition: Some(0), ..Draft::text("move-6") }).await.unwrap();
    }
    for number in 0..BACKLOG {
        let draft = Draft { partition: Some((number % 3) as i32), ..Draft::text("x".repeat(RECORD_BYTES)) };
        writer.write(TOPIC, &draft).await.unwrap();
    }
    let bound = (QUEUE_BYTES_MAX + RECORD_BYTES + 1024) as f64;
    let queued = async || {
        let lane = format!(r#"plugin="{PLUGIN}",lane="kafka""#);
        let bytes = host::metric(target, "queue_bytes", &lane).await?;
        assert!(bytes <= bound, "{bytes} bytes, over {bound}");
        anyhow::Ok(bytes)
    };
    eventually(async || {
        let bytes = queued().await?;
        ensure!(bytes >= (QUEUE_BYTES_MAX - RECORD_BYTES) as f64, "{bytes} bytes are queued");
        Ok(())
    })
    .await;
    guest::turn(&plugins, "kind");
    person.run("ROLLBACK").await;
    eventually(async || {
        queued().await?;
        let done = flow::records(target, DONE).await;
        ensure!(done == WAITING + BACKLOG, "{done} records are handled");
        Ok(())
    })
    .await;
}
