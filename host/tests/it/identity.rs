//! Which database a record is from, and in which order records of a key count, when names, clocks and ids are
//! not what they seem.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    service::{ORDER_CREATED, STOCK_CREATED, STOCK_UPDATED},
    target::Target,
    topic::{Record, blocking, partition_of, reader, writer},
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::support::{
    eventually, flow, folder,
    host::{self, Host},
    stack::Own,
};

const INVENTORY: [&str; 2] = ["inventory-command", "inventory-query"];
const DATABASE: &str = "cmd-inventory";
const PARTITIONS: i32 = 6;

async fn sql(target: &Target, database: &str) -> PgConnection {
    let server: PgConnectOptions = target.postgres.parse().unwrap();
    server.database(database).disable_statement_logging().connect().await.unwrap()
}

async fn execute(target: &Target, statement: &str) {
    let mut server = sql(target, "postgres").await;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut server).await.unwrap();
    server.close().await.unwrap();
}

async fn identity(target: &Target) -> String {
    let mut database = sql(target, DATABASE).await;
    let read = sqlx::query_scalar("SELECT identity FROM saga.database_identity");
    let identity = read.fetch_one(&mut database).await.unwrap();
    database.close().await.unwrap();
    identity
}

async fn create(target: &Target, product: i64, qty: i64) {
    let request = Request::post("/stocks", format!(r#"{{"productId":{product},"qty":{qty}}}"#));
    request.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
}

async fn set(target: &Target, product: i64, qty: i64) {
    let path = format!("/stocks/{product}?qty={qty}");
    eventually(async || Request::new("PATCH", path.clone()).send(target.http()?).await?.expect(200)).await;
}

async fn shows(target: &Target, product: i64, qty: i64) {
    eventually(async || {
        let shown = Request::get(format!("/stocks/{product}")).send(target.http()?).await?.expect(200)?;
        let shown = shown.member("currentQty")?;
        ensure!(shown == qty, "product {product} shows {shown} instead of {qty}");
        Ok(())
    })
    .await;
}

/// The `ce_sequence` and `ce_id` of the last record about a product.
async fn last_record(target: &Target, product: i64) -> (String, String) {
    let brokers = target.kafka.clone();
    let read = move || {
        let mut last: Option<Record> = None;
        reader::read_all(&brokers, &[STOCK_CREATED, STOCK_UPDATED], |record| {
            let sequence = |record: &Record| record.header("ce_sequence").map(str::to_owned);
            if record.key_text() == Some(&product.to_string())
                && last.as_ref().is_none_or(|last| sequence(last) < sequence(&record))
            {
                last = Some(record);
            }
        })?;
        last.context("no record")
    };
    let record = blocking(read).await.unwrap();
    let header = |name| record.header(name).unwrap().to_owned();
    (header("ce_sequence"), header("ce_id"))
}

async fn back_up(target: &Target, database: &str) {
    execute(target, &format!(r#"CREATE DATABASE backup TEMPLATE "{database}""#)).await;
}

async fn restore(target: &Target, database: &str) {
    execute(target, &format!(r#"DROP DATABASE "{database}" WITH (FORCE)"#)).await;
    execute(target, &format!(r#"ALTER DATABASE backup RENAME TO "{database}""#)).await;
}

fn partition(product: i64) -> i32 {
    partition_of(product.to_string().as_bytes(), PARTITIONS)
}

/// The next product whose records are in the same partition.
fn in_the_partition_of(product: i64, after: i64) -> i64 {
    (after + 1..).find(|other| partition(*other) == partition(product)).unwrap()
}

/// A restored dump is an earlier state: its outbox numbers are lower than those that readers have seen.
#[tokio::test]
async fn a_restored_database_takes_a_new_identity_and_its_changes_count() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&INVENTORY);
    let host = host::run(target, &plugins).await;
    create(target, 7, 10).await;
    shows(target, 7, 10).await;
    let before = identity(target).await;
    host.stop().await;
    back_up(target, DATABASE).await;

    let host = host::run(target, &plugins).await;
    assert_eq!(identity(target).await, before, "a restart is no reason");
    for qty in 20..26 {
        set(target, 7, qty).await;
    }
    shows(target, 7, 25).await;
    let (lost, _) = last_record(target, 7).await;
    host.stop().await;
    restore(target, DATABASE).await;

    let (host, log) = host::run_logging_lanes(target, &plugins).await;
    let after = identity(target).await;
    assert!(after > before, "{after} sorts after {before}");
    set(target, 7, 11).await;
    shows(target, 7, 11).await;
    let (sequence, id) = last_record(target, 7).await;
    assert!(sequence > lost && id.starts_with(&after), "{sequence} {id}");
    host.stop().await;
    let logged = fs::read_to_string(log).unwrap();
    assert_eq!(logged.matches("it has taken a new identity").count(), 1, "{logged}");
}

/// Without traffic nothing would show the host that its positions are not those of the database any more.
#[tokio::test]
async fn a_read_model_that_is_restored_under_a_running_host_is_read_again_without_traffic() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&INVENTORY);
    let host = host::run(target, &plugins).await;
    create(target, 7, 10).await;
    shows(target, 7, 10).await;
    host.stop().await;
    back_up(target, "query-inventory").await;

    let _host = host::run(target, &plugins).await;
    set(target, 7, 25).await;
    shows(target, 7, 25).await;
    restore(target, "query-inventory").await;
    eventually(async || {
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM saga.lane WHERE lease_expires_at > now()")
            .fetch_one(&mut sql(target, "query-inventory").await)
            .await?;
        ensure!(known > 0, "the host has no lane in the restored database yet");
        Ok(())
    })
    .await;
    shows(target, 7, 25).await;
}

/// A read model's commit does not wait for the disk, so a crash of the server can undo it.
#[tokio::test]
async fn what_a_crashed_server_has_lost_of_a_read_model_is_read_again_without_traffic() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &folder::plugins(&INVENTORY)).await;
    create(target, 7, 10).await;
    shows(target, 7, 10).await;
    let undone = "UPDATE saga.lane SET unit = unit - 1 WHERE kind = 'kafka';
         UPDATE saga.partition_claim SET next_offset = 0, dedup_marks = '';
         DELETE FROM public.stock_view";
    let mut database = sql(target, "query-inventory").await;
    sqlx::raw_sql(undone).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    shows(target, 7, 10).await;
}

/// Places an order for all of product 7, then one that is rejected; gives both answers.
async fn two_orders(target: &Target) -> Vec<String> {
    let mut ends = Vec::new();
    for (number, qty) in [(1, 3), (2, 1)] {
        let order = format!(r#"{{"orderId":"{}","productId":7,"orderQty":{qty}}}"#, flow::id(number));
        let order = Request::post("/orders", order).header("Prefer", "wait=30");
        let answer = order.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
        ends.push(answer.member("orderStatus").unwrap().as_str().unwrap().to_owned());
    }
    ends
}

/// Inventory has decided on the orders, and the restored database of orders does not know them.
#[tokio::test]
async fn orders_that_a_restore_has_lost_and_that_are_placed_again_end_as_before() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&host::PLUGINS);
    host::run(target, &plugins).await.stop().await;
    back_up(target, "cmd-order").await;

    let host = host::run(target, &plugins).await;
    create(target, 7, 3).await;
    assert_eq!(two_orders(target).await, ["CONFIRMED", "CANCELLED"]);
    set(target, 7, 10).await;
    host.stop().await;
    restore(target, "cmd-order").await;

    let _host = host::run(target, &plugins).await;
    assert_eq!(flow::count(target, "cmd-order", "SELECT count(*) FROM public.customer_order").await, 0);
    assert_eq!(two_orders(target).await, ["CONFIRMED", "CANCELLED"]);
    let deducted = "SELECT count(*) FROM public.stock WHERE product_id = 7 AND current_qty <> 10";
    assert_eq!(flow::count(target, "cmd-inventory", deducted).await, 0, "an order was deducted twice");
    for (number, status) in [(1, "CONFIRMED"), (2, "CANCELLED")] {
        eventually(async || {
            let shown = Request::get(format!("/orders/{}", flow::id(number))).send(target.http()?).await?;
            let shown = shown.expect(200)?.member("orderStatus")?;
            ensure!(shown == status, "order {number} shows {shown} instead of {status}");
            Ok(())
        })
        .await;
    }
}

/// The host runs on: its lanes and its relay find out on their next connection.
#[tokio::test]
async fn a_promoted_server_takes_a_new_identity_while_the_host_runs() {
    let mut stack = Own::start().await;
    let plugins = folder::plugins(&INVENTORY);
    let _host = host::run(&stack.target, &plugins).await;
    create(&stack.target, 7, 10).await;
    shows(&stack.target, 7, 10).await;
    let before = identity(&stack.target).await;
    let mut server = sql(&stack.target, "postgres").await;
    let folder: String = sqlx::query_scalar("SHOW data_directory").fetch_one(&mut server).await.unwrap();
    server.close().await.unwrap();
    fs::write(Path::new(&folder).join("standby.signal"), "").unwrap();
    stack.restart().await;
    let target = &stack.target;
    execute(target, "SELECT pg_promote()").await;
    set(target, 7, 11).await;
    shows(target, 7, 11).await;
    let after = identity(target).await;
    assert!(after > before, "{after} sorts after {before}");
    let (_, id) = last_record(target, 7).await;
    assert!(id.starts_with(&after), "{id} is not of {after}");
}

/// As in a blue/green deployment, or after a clone: the database with the lower epochs publishes last.
#[tokio::test]
async fn two_databases_of_one_name_on_one_kafka_are_two_publishers() {
    let (stack, elsewhere) = (Own::start().await, Own::start().await);
    let target = &stack.target;
    let green = Target { kafka: target.kafka.clone(), ..elsewhere.target.clone() };
    let (ours, theirs) = (7, in_the_partition_of(7, 7));
    let only_command = folder::plugins(&INVENTORY[..1]);
    let policy = only_command.join("inventory-command.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("[kafka]", "[kafka]\ngroup = \"elsewhere\"")).unwrap();
    let _green = host::run(&green, &only_command).await;
    create(&green, theirs, 10).await;

    let _host = host::run(target, &folder::plugins(&INVENTORY)).await;
    assert_ne!(identity(target).await, identity(&green).await);
    // Both lanes of the database publish to the partition, whatever their slots are.
    create(target, ours, 10).await;
    let order = format!(
        r#"{{"orderId":"{}","productId":{ours},"orderQty":3,"timestamp":"2026-11-22T19:28:00Z"}}"#,
        flow::id(1)
    );
    let writer = writer::Writer::new(&target.kafka).unwrap();
    writer.write(ORDER_CREATED, &writer::Draft::text(order)).await.unwrap();
    shows(target, ours, 7).await;
    set(target, ours, 20).await;
    shows(target, ours, 20).await;

    for qty in 1..=8 {
        set(&green, theirs, qty).await;
    }
    shows(target, theirs, 8).await;
}

fn claiming(id: &str, product: i64, qty: i64) -> writer::Draft {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![header("ce_source", "/saga-host/x/y"), header("ce_id", id)];
    let value = format!(r#"{{"productId":{product},"currentQty":{qty}}}"#);
    writer::Draft { partition: Some(partition(7)), headers, ..writer::Draft::text(value) }
}

#[tokio::test]
async fn no_record_that_claims_to_be_of_a_saga_host_stops_or_swallows_others() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&INVENTORY);
    let host = host::run(target, &plugins).await;
    create(target, 7, 10).await;
    set(target, 7, 11).await;
    shows(target, 7, 11).await;
    let (_, id) = last_record(target, 7).await;
    let stream = id.rsplitn(4, ':').last().unwrap();
    let writer = writer::Writer::new(&target.kafka).unwrap();
    for (id, product) in [
        ("a\nb:1:2:3:4".to_owned(), 101),
        (format!("{stream}:{}:1:0", i64::MAX), 102),
        (format!("{stream}:99999999999999999999:1:0"), 103),
        ("\n".to_owned(), 104),
    ] {
        writer.write(STOCK_UPDATED, &claiming(&id, product, 3)).await.unwrap();
    }
    set(target, 7, 12).await;
    shows(target, 7, 12).await;
    for product in [101, 103, 104] {
        shows(target, product, 3).await;
    }
    let parked = host::get(target, "/v1/parked").await.unwrap();
    let [entry] = &parked["parked"].as_array().unwrap()[..] else { panic!("{parked}") };
    let reason = entry["reason"].as_str().unwrap();
    assert!(entry["key"] == "102" && reason.contains(stream), "{entry}");
    host.stop().await;

    let _host = host::run(target, &plugins).await;
    set(target, 7, 13).await;
    shows(target, 7, 13).await;
    let id = entry["id"].as_str().unwrap();
    let redrive = Request::post(format!("/v1/parked/{id}/redrive"), String::new());
    redrive.send(target.admin().unwrap()).await.unwrap().expect(200).unwrap();
    shows(target, 102, 3).await;
}

/// One host's clock is two hours ahead. The last change counts, whichever host makes it.
#[tokio::test]
async fn the_last_commit_counts_whatever_the_clocks_of_the_hosts_say() {
    let stack = Own::start().await;
    let (right, wrong) = (&stack.target, &host::addressed(&stack.target));
    let plugins = folder::plugins(&INVENTORY);
    let _hosts: (Host, Host) =
        (host::run(right, &plugins).await, host::run_with_clock(wrong, &plugins, 7_200).await);
    create(right, 7, 10).await;
    for (target, qty) in [(wrong, 11), (right, 12), (wrong, 13), (right, 14)] {
        set(target, 7, qty).await;
        shows(right, 7, qty).await;
    }
    let ahead = "SELECT count(*) FROM public.stock_view WHERE said_at > now() + interval '1 minute'";
    assert_eq!(flow::count(right, "query-inventory", ahead).await, 0, "records have a host's time");
}
