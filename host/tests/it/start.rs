//! What a host answers while it starts, or while a plugin of it cannot: an outage or a rejection is never "no
//! such route", and ends by itself.

use std::process::Output;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};
use saga_testkit::{
    caller::{Reply, Request},
    plugin_folder,
    target::Target,
};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::process::{Child, Command};

use crate::support::{SOON, eventually, flow::product, folder, gate::Gate, host, stack::Own};

const PLUGINS: [&str; 2] = ["inventory-command", "order-orchestrator"];

async fn send(target: &Target, request: Request) -> anyhow::Result<Reply> {
    request.send(target.http()?).await
}

/// A valid order.
fn order() -> Request {
    Request::post("/orders", r#"{"productId":1,"orderQty":1}"#)
}

/// A 503 that says so and when to try again.
fn unavailable(reply: anyhow::Result<Reply>, says: &str) {
    let reply = reply.unwrap().expect_problem(&[503], says).unwrap();
    assert!(reply.header("retry-after").is_some(), "no Retry-After: {}", reply.short());
}

#[tokio::test]
async fn while_postgres_or_kafka_is_away_routes_are_503_and_the_plugins_start_when_it_is_back() {
    let stack = Own::start().await;
    let (kafka, behind) = Gate::before_kafka(&stack.target);
    let (postgres, behind) = Gate::before_postgres(&behind);
    let plugins = folder::plugins(&PLUGINS);
    let stopped = host::spawn(&behind, &plugins);
    host::not_ready(&behind, "waiting for Postgres").await;
    stopped.stop().await;
    let (host, log) = host::spawn_logging(&behind, &plugins);
    eventually(async || Request::get("/healthz").send(behind.admin()?).await?.expect(200)).await;
    host::not_ready(&behind, "waiting for Postgres").await;
    for request in
        [order(), Request::get("/orders/1/events"), Request::get("/unknown"), Request::get("/orders")]
    {
        unavailable(send(&behind, request).await, "starting");
    }
    postgres.open().await;
    for plugin in PLUGINS {
        host::not_ready(&behind, &format!("{plugin}: waits, retrying: ")).await;
    }
    eventually(async || send(&behind, Request::get("/unknown")).await?.expect_problem(&[404], "")).await;
    unavailable(send(&behind, order()).await, "order-orchestrator does not run: Postgres or Kafka");
    unavailable(send(&behind, Request::new("PATCH", "/stocks/1?qty=5")).await, "inventory-command");
    let shown = host::get(&behind, "/v1/plugins").await.unwrap();
    assert_eq!(shown["plugins"][1]["versions"][0]["state"], "waiting", "{shown}");
    kafka.open().await;
    host::ready(&behind).await;
    product(&behind, 5).await;
    send(&behind, order()).await.unwrap().expect(201).unwrap();
    host.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    for (line, count) in [
        ("waiting for Postgres", 1),
        ("Postgres answers", 1),
        ("plugin waits", PLUGINS.len()),
        ("plugin active", PLUGINS.len()),
        ("plugin rejected", 0),
    ] {
        let lines = log.lines().filter(|shown| shown.contains(line)).count();
        assert_eq!(lines, count, "{line:?} in:\n{log}");
    }
}

#[tokio::test]
async fn a_plugin_that_is_rejected_after_a_restart_is_503_until_its_policy_is_corrected() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&PLUGINS));
    host::run(target, &plugins).await.stop().await;
    let policy = plugins.join("inventory-command.toml");
    let good = std::fs::read(&policy).unwrap();
    std::fs::write(&policy, "nonsense").unwrap();
    let _host = host::spawn(target, &plugins);
    host::not_ready(target, "inventory-command: inventory-command.toml: line 1").await;
    eventually(async || send(target, order()).await?.expect(201)).await;
    unavailable(
        send(target, Request::post("/stocks", r#"{"qty":1}"#)).await,
        "inventory-command does not run: this host cannot run its version",
    );
    send(target, Request::get("/unknown")).await.unwrap().expect_problem(&[404], "").unwrap();
    plugin_folder::replace(&policy, &good).unwrap();
    host::ready(target).await;
    product(target, 5).await;
}

/// `saga-host run` with migrations that are only checked.
fn run_checked(target: &Target, plugins: &std::path::Path) -> Child {
    Command::new(host::BINARY)
        .arg("run")
        .env("SAGA_HOST_POSTGRES", &target.postgres)
        .env("SAGA_HOST_KAFKA", &target.kafka)
        .env("SAGA_HOST_HTTP", target.http().unwrap())
        .env("SAGA_HOST_ADMIN", target.admin().unwrap())
        .env("SAGA_HOST_PLUGINS", plugins)
        .env("SAGA_HOST_CACHE", folder::cache())
        .env("SAGA_HOST_MIGRATIONS", "check")
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn ended(process: Child) -> Output {
    tokio::time::timeout(SOON, process.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_host_that_checks_migrations_refuses_to_start_and_names_those_of_all_databases() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&PLUGINS));
    let output = ended(run_checked(target, &plugins)).await;
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let error = printed.lines().last().unwrap_or_default();
    for part in [
        "cmd-inventory: 0001_base.sql of host, ",
        "0001_stock.sql of inventory-command",
        "cmd-order: 0001_base.sql of host, ",
        "0001_order.sql of order-orchestrator",
        "SAGA_HOST_MIGRATIONS=apply",
    ] {
        assert!(error.contains(part), "no {part:?} in: {printed}");
    }
    host::run(target, &plugins).await.stop().await;
    let host = run_checked(target, &plugins);
    host::ready(target).await;
    let pid = i32::try_from(host.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let output = ended(host).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn database(target: &Target, name: &str) -> PgConnection {
    target.postgres.parse::<PgConnectOptions>().unwrap().database(name).connect().await.unwrap()
}

async fn run_sql(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn exists(connection: &mut PgConnection, table: &str) -> bool {
    let found = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(connection);
    found.await.unwrap()
}

/// What `pg_dump` holds while it runs.
#[tokio::test]
async fn a_plugin_starts_while_a_dump_reads_the_tables_whose_partitions_are_due() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&["inventory-command"]));
    host::run(target, &plugins).await.stop().await;
    let mut dump = database(target, "cmd-inventory").await;
    let mut admin = database(target, "cmd-inventory").await;
    let next = "SELECT 'saga.saga_done_' || to_char((now() AT TIME ZONE 'UTC')::date + 7, 'YYYYMMDD')";
    let next: String = sqlx::query_scalar(next).fetch_one(&mut admin).await.unwrap();
    let old = "saga.saga_done_20200101";
    run_sql(&mut admin, &format!("DROP TABLE {next}")).await;
    let bounds = "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')";
    run_sql(&mut admin, &format!("CREATE TABLE {old} PARTITION OF saga.saga_done {bounds}")).await;
    run_sql(&mut dump, "BEGIN; LOCK TABLE saga.saga_done IN ACCESS SHARE MODE").await;
    let host = host::run(target, &plugins).await;
    product(target, 5).await;
    assert!(exists(&mut admin, &next).await, "creating a partition waits for the dump");
    assert!(exists(&mut admin, old).await, "a table that is being read was dropped");
    run_sql(&mut dump, "COMMIT").await;
    host.stop().await;
    host::run(target, &plugins).await.stop().await;
    eventually(async || {
        ensure!(!exists(&mut admin, old).await, "the old partition is still there");
        Ok(())
    })
    .await;
}
