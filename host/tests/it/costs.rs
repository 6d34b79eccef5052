//! What sagas and messages cost in Postgres, against `costs.toml`. Nothing is timed.
//!
//! ```text
//!  alone   sagas one after the other, so that each unit has one delivery. Starting and stopping a host costs
//!          the same in two runs: their difference is divided by the number of sagas that one has more
//!  behind  read models find all records of those runs at once: their units are large
//! ```

use std::path::Path;

use anyhow::ensure;
use saga_testkit::{
    caller::Request,
    costs::Costs,
    database::{Counters, Databases},
    quiet,
    target::Target,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{
    SOON, clean_up, eventually, flow, folder,
    host::{self, Host, PLUGINS, metric},
    stack::Own,
    wire::{Passed, Wire},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs.toml");
const COMMANDS: [&str; 2] = ["order-orchestrator", "inventory-command"];
const READ_MODELS: [&str; 3] = ["order-query", "inventory-query", "notification"];
const OUTBOX: &str = "SELECT count(*) FROM saga.outbox";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'saga-host%'";
/// Sagas of the shorter run: enough that statements are prepared and pages exist.
const FEW: usize = 30;
/// Sagas that the longer run adds.
const MORE: usize = 200;
/// One order in so many asks for more than is in stock.
const ONE_REJECTED_IN: usize = 10;

/// The costs of one run of a host.
struct Run {
    written: Counters,
    lanes: Vec<Lanes>,
}

/// The work of the lanes of one plugin.
#[derive(Clone, Copy)]
struct Lanes {
    plugin: &'static str,
    passed: Passed,
    units: f64,
    deliveries: f64,
}

#[tokio::test]
async fn sagas_and_messages_cost_no_more_than_the_stored_figures() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _without_autovacuum = WithoutAutovacuum::start(target).await;
    // Databases and partitions are created once, before anything is counted.
    run(target, &PLUGINS, async || one_by_one(target, FEW).await).await;
    let few = run(target, &COMMANDS, async || one_by_one(target, FEW).await).await;
    let more = run(target, &COMMANDS, async || one_by_one(target, FEW + MORE).await).await;
    let behind = run(target, &READ_MODELS, async || caught_up(target).await).await;
    let judged = [("alone-per-saga", alone(&few, &more)), ("behind-per-message", per_message(&behind))]
        .map(|(section, measured)| Costs::read(Path::new(FILE), section).unwrap().judge(&measured));
    let holds = judged.iter().all(Result::is_ok);
    for judged in judged {
        eprintln!("{}", judged.unwrap_or_else(|error| format!("{error:#}")));
    }
    assert!(holds, "a saga or a message costs more than the figure stored in costs.toml");
}

/// Runs a host until its work is done and it has ended. Only then has every session reported its counters to
/// Postgres.
async fn run(target: &Target, plugins: &[&'static str], work: impl AsyncFnOnce()) -> Run {
    let before = counters(target).await;
    let (wire, wired) = Wire::before(target);
    let host = host::run(&wired, &folder::plugins(plugins)).await;
    work().await;
    let mut lanes = Vec::new();
    for plugin in plugins {
        let count = async |name| metric(target, name, &format!("plugin=\"{plugin}\"")).await.unwrap();
        let (units, deliveries) = (count("units_total").await, count("deliveries_total").await);
        lanes.push(Lanes { plugin, passed: wire.of_lanes(plugin), units, deliveries });
    }
    end(target, host).await;
    Run { written: counters(target).await.since(before), lanes }
}

/// Stops a host with an empty outbox, so that the next run sends nothing of it.
async fn end(target: &Target, host: Host) {
    none_left(target, "cmd-order", OUTBOX).await;
    none_left(target, "cmd-inventory", OUTBOX).await;
    host.stop().await;
    none_left(target, "cmd-order", SESSIONS).await;
}

async fn none_left(target: &Target, database: &str, statement: &'static str) {
    eventually(async || {
        let left = flow::count(target, database, statement).await;
        ensure!(left == 0, "{left} in {database}: {statement}");
        Ok(())
    })
    .await;
}

async fn one_by_one(target: &Target, sagas: usize) {
    let product = flow::product(target, sagas).await;
    for number in 0..sagas {
        let (qty, expected) =
            if number % ONE_REJECTED_IN == 0 { (sagas + 1, "CANCELLED") } else { (1, "CONFIRMED") };
        let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":{qty}}}"#));
        let reply = order.header("Prefer", "wait=30").send(target.http().unwrap()).await.unwrap();
        assert_eq!(reply.expect(201).unwrap().member("orderStatus").unwrap(), expected);
    }
}

async fn caught_up(target: &Target) {
    let databases = Databases::new(&target.postgres).unwrap();
    let motion = quiet::wait(target, &databases, SOON).await.unwrap();
    databases.close().await;
    assert!(motion.is_empty(), "{motion:?}");
}

/// The costs of `more` without those of `few`, for each saga that `more` adds.
fn alone(few: &Run, more: &Run) -> Vec<(String, f64)> {
    let written = more.written.since(few.written);
    let mut costs = rows_and_wal(written, MORE as f64);
    costs.push(("transactions".to_owned(), written.transactions as f64 / MORE as f64));
    for (few, more) in few.lanes.iter().zip(&more.lanes) {
        let (plugin, units) = (few.plugin, more.units - few.units);
        assert_eq!(units, more.deliveries - few.deliveries, "a unit of {plugin} had more than one delivery");
        let each =
            |count: fn(&Passed) -> u64| (count(&more.passed) - count(&few.passed)) as f64 / MORE as f64;
        costs.push((format!("{plugin}_transactions"), each(|passed| passed.transactions)));
        costs.push((format!("{plugin}_round_trips"), each(|passed| passed.round_trips)));
        costs.push((format!("{plugin}_bytes_to_postgres"), each(|passed| passed.bytes)));
    }
    costs
}

/// Costs per message. They include the start of the host, shared by all messages.
fn per_message(run: &Run) -> Vec<(String, f64)> {
    let messages = run.lanes.iter().map(|lanes| lanes.deliveries).sum();
    let mut costs = rows_and_wal(run.written, messages);
    for Lanes { plugin, passed, units, deliveries } in &run.lanes {
        costs.push((format!("{plugin}_units"), units / deliveries));
        // All round trips but the one that prepares the plugin's only statement.
        costs.push((format!("{plugin}_round_trips_of_a_unit"), (passed.round_trips - 1) as f64 / units));
        costs.push((format!("{plugin}_bytes_to_postgres"), passed.bytes as f64 / deliveries));
    }
    costs
}

fn rows_and_wal(written: Counters, among: f64) -> Vec<(String, f64)> {
    let counts = [
        ("rows_inserted", written.inserted),
        ("rows_updated", written.updated),
        ("rows_deleted", written.deleted),
        ("wal_bytes", written.wal_bytes),
    ];
    counts.map(|(name, count)| (name.to_owned(), count as f64 / among)).into()
}

/// The counters of all databases; zero for a stack that has none yet.
async fn counters(target: &Target) -> Counters {
    let databases = Databases::new(&target.postgres).unwrap();
    let counters = databases.counters().await.unwrap_or_default();
    databases.close().await;
    counters
}

/// Autovacuum is off, since its work could fall into one run and not into the other. Dropping this turns it
/// on again.
struct WithoutAutovacuum {
    postgres: String,
}

impl WithoutAutovacuum {
    async fn start(target: &Target) -> Self {
        autovacuum(&target.postgres, "off").await;
        Self { postgres: target.postgres.clone() }
    }
}

impl Drop for WithoutAutovacuum {
    fn drop(&mut self) {
        let postgres = std::mem::take(&mut self.postgres);
        clean_up(async move { autovacuum(&postgres, "on").await });
    }
}

async fn autovacuum(postgres: &str, set: &str) {
    let mut server = PgConnection::connect(postgres).await.unwrap();
    let set = format!("ALTER SYSTEM SET autovacuum = {set}");
    for statement in [set.as_str(), "SELECT pg_reload_conf()", "CHECKPOINT"] {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut server).await.unwrap();
    }
    server.close().await.unwrap();
}
