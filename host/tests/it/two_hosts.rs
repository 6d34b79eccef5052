//! Two hosts share the partitions; one takes over from the other.

use std::collections::BTreeSet;

use anyhow::ensure;
use saga_testkit::{caller::Request, plugin_folder, target::Target, topic::groups};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::support::{
    SOON, eventually,
    flow::{self, CANCELLED, CONFIRMED, ORDERS, Products},
    folder,
    host::{self, Host},
    stack::Own,
};

const PLENTY: usize = 1_000_000;
/// Channels of Postgres.
const COMMITTED: &str = "saga_outbox";
const ENDED: &str = "saga_ended";
const PLACED: &str = "SELECT count(*) FROM public.customer_order";

/// Two hosts, each with partitions of every group. Orders are placed at the first one.
struct Pair {
    _first: Host,
    second: Host,
    /// Declared after the hosts, so that they end before it is dropped.
    stack: Own,
    /// The stack with the addresses of the second host.
    seconds: Target,
    products: Products,
}

impl Pair {
    async fn start() -> Self {
        let stack = Own::start().await;
        let seconds = host::addressed(&stack.target);
        let plugins = folder::plugins(&[]);
        let first = host::run(&stack.target, &plugins).await;
        let second = host::run(&seconds, &plugins).await;
        groups::shared(&stack.target.kafka, 2, SOON).await.unwrap();
        let products = Products::new(&stack.target).await;
        Self { _first: first, second, stack, seconds, products }
    }
}

#[tokio::test]
async fn a_caller_gets_the_end_of_a_saga_from_whichever_host_ends_it() {
    let pair = Pair::start().await;
    let ends = pair.products.place_and_wait(&pair.stack.target).await;
    let count = |status: &str| ends.iter().filter(|end| *end == status).count();
    assert_eq!((count("CONFIRMED"), count("CANCELLED")), (CONFIRMED, CANCELLED));
    let ended_by_second =
        host::metric(&pair.seconds, "deliveries_total", r#"plugin="order-orchestrator""#).await.unwrap();
    assert!(ended_by_second > 0.0, "the second host has ended no saga");
    flow::ends_as_expected(&pair.stack.target).await;
    pair.second.stop().await;
    flow::ends_as_expected(&pair.stack.target).await;
}

#[tokio::test]
async fn a_host_takes_over_from_one_that_was_killed() {
    let pair = Pair::start().await;
    let before = pair.products.place_some(&pair.stack.target, 0..ORDERS / 2);
    flow::reaches(&pair.stack.target, "cmd-order", PLACED, 1).await;
    pair.second.kill().await;
    let after = pair.products.place_some(&pair.stack.target, ORDERS / 2..ORDERS);
    flow::all_accepted(before).await;
    flow::all_accepted(after).await;
    flow::ends_as_expected(&pair.stack.target).await;
    groups::shared(&pair.stack.target.kafka, 1, SOON).await.unwrap();
}

#[tokio::test]
async fn a_frozen_host_writes_nothing_when_it_continues() {
    let pair = Pair::start().await;
    let target = &pair.stack.target;
    let before = pair.products.place_some(target, 0..ORDERS / 2);
    flow::reaches(target, "cmd-order", PLACED, 1).await;
    pair.second.freeze();
    let after = pair.products.place_some(target, ORDERS / 2..ORDERS);
    flow::all_accepted(before).await;
    flow::all_accepted(after).await;
    let (taken_over, _) = flow::ends_as_expected(target).await;
    groups::shared(&target.kafka, 1, SOON).await.unwrap();

    pair.second.thaw();
    groups::shared(&target.kafka, 2, SOON).await.unwrap();
    let (again, _) = flow::ends_as_expected(target).await;
    assert_eq!((again.distinct, again.repeated), (taken_over.distinct, taken_over.repeated));
}

/// Every host also polls, so sagas would end without notifications, only later. The test asserts the
/// notifications themselves.
#[tokio::test]
async fn hosts_notify_each_other_of_what_they_commit_and_end() {
    let pair = Pair::start().await;
    let product = flow::product(&pair.stack.target, PLENTY).await;
    let orders = async {
        // Both hosts in turn: whichever host ends a saga, some of the callers wait on the other one.
        for target in [&pair.stack.target, &pair.seconds].into_iter().cycle() {
            let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":1}}"#));
            let order = order.header("Prefer", "wait=30");
            order.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
        }
    };
    tokio::select! {
        () = orders => {}
        () = notified(&pair.stack.target) => {}
    }
}

/// Waits until one host has notified the leader of a commit and the others of the end of a saga.
async fn notified(target: &Target) {
    let database = target.postgres.parse::<PgConnectOptions>().unwrap().database("cmd-order");
    let pool = PgPoolOptions::new().max_connections(1).connect_with(database).await.unwrap();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    let mut missing = BTreeSet::from([COMMITTED, ENDED]);
    listener.listen_all([COMMITTED, ENDED]).await.unwrap();
    let all = async {
        while !missing.is_empty() {
            missing.remove(listener.recv().await.unwrap().channel());
        }
    };
    let in_time = tokio::time::timeout(SOON, all).await;
    assert!(in_time.is_ok(), "no notification on {missing:?}");
}

/// The component is deployed by the API of the second host; no file of either host changes.
#[tokio::test]
async fn a_host_follows_an_activation_of_another() {
    let pair = Pair::start().await;
    let (first, second) = (&pair.stack.target, &pair.seconds);
    let elsewhere = folder::plugins(&["order-orchestrator"]);
    plugin_folder::change(&elsewhere, "order-orchestrator").unwrap();
    let before = host::active(first, "order-orchestrator").await.unwrap();
    host::cli(second, &["deploy", &elsewhere.join("order-orchestrator.wasm").display().to_string()]);
    let activated = host::active(second, "order-orchestrator").await.unwrap();
    assert_ne!(activated, before);
    taken_over(first, &activated).await;
    pair.products.place_and_wait(first).await;
    host::cli(first, &["rollback", "order-orchestrator"]);
    taken_over(second, &before).await;
    host::cli(second, &["rollback", "order-orchestrator", "--to", &activated[..12]]);
    taken_over(first, &activated).await;
    flow::ends_as_expected(first).await;
}

/// The version in the database is active even when the host that wrote it died before running it.
#[tokio::test]
async fn a_host_killed_between_the_database_and_its_swap_leaves_one_active_version() {
    let plugin = "order-orchestrator";
    let stack = Own::start().await;
    let (first, second) = (&stack.target, &host::addressed(&stack.target));
    let plugins = folder::plugins(&[]);
    let _follows = host::run(second, &plugins).await;
    let before = host::active(second, plugin).await.unwrap();
    let doomed = host::spawn_with_fault(first, &plugins, "after-activation-before-swap");
    host::ready(first).await;
    let elsewhere = folder::plugins(&[plugin]);
    plugin_folder::change(&elsewhere, plugin).unwrap();
    host::cli_refuses(first, &["deploy", &elsewhere.join(format!("{plugin}.wasm")).display().to_string()]);
    doomed.dies().await;
    eventually(async || {
        ensure!(host::active(second, plugin).await? != before, "the second host has not followed");
        Ok(())
    })
    .await;
    let _again = host::run(first, &plugins).await;
    assert_eq!(host::active(first, plugin).await.unwrap(), host::active(second, plugin).await.unwrap());
    Products::new(first).await.place_and_wait(first).await;
    flow::ends_as_expected(first).await;
}

/// The policy of the second host is broken when the first one deploys a version.
#[tokio::test]
async fn a_host_that_cannot_run_the_active_version_is_suspended_and_the_other_works() {
    let plugin = "order-orchestrator";
    let stack = Own::start().await;
    let (first, second) = (&stack.target, &host::addressed(&stack.target));
    let (of_first, of_second) = (folder::plugins(&[]), folder::plugins(&[]));
    let _running = (host::run(first, &of_first).await, host::run(second, &of_second).await);
    groups::shared(&first.kafka, 2, SOON).await.unwrap();
    let products = Products::new(first).await;
    let policy = of_second.join(format!("{plugin}.toml"));
    let text = std::fs::read(&policy).unwrap();
    plugin_folder::replace(&policy, b"nonsense").unwrap();
    plugin_folder::change(&of_first, plugin).unwrap();
    let ready = async || Request::get("/readyz").send(second.admin()?).await;
    eventually(async || {
        let answer = ready().await?.expect(503)?.text();
        ensure!(
            answer.contains("is the active version and cannot run here: order-orchestrator.toml"),
            "{answer}"
        );
        Ok(())
    })
    .await;
    let order = Request::post("/orders", r#"{"productId":1,"orderQty":1}"#.to_owned());
    order.send(second.http().unwrap()).await.unwrap().expect(503).unwrap();
    products.place_and_wait(first).await;
    flow::ends_as_expected(first).await;

    plugin_folder::replace(&policy, &text).unwrap();
    eventually(async || ready().await?.expect(200)).await;
    taken_over(second, &host::active(first, plugin).await.unwrap()).await;
    groups::shared(&first.kafka, 2, SOON).await.unwrap();
}

/// The leader's policy does not grant what the new version asks for, which the other host deploys.
#[tokio::test]
async fn a_suspended_leader_leaves_deadlines_to_the_other_host() {
    let plugin = "order-orchestrator";
    let stack = Own::start().await;
    let (first, second) = (&stack.target, &host::addressed(&stack.target));
    let folders = [folder::plugins(&[plugin]), folder::plugins(&[plugin])];
    let [of_first, of_second] = folders.each_ref().map(|folder| folder.join(format!("{plugin}.toml")));
    let text = std::fs::read_to_string(&of_first).unwrap();
    let hurried = text.replace(r#"saga_deadline_s = "30""#, r#"saga_deadline_s = "1""#);
    std::fs::write(&of_second, &hurried).unwrap();
    let leader = host::run(first, &folders[0]).await;
    assert_eq!(host::metric(first, "relay_leads", "cmd-order").await.unwrap(), 1.0);
    let _other = host::run(second, &folders[1]).await;
    let before = host::active(second, plugin).await.unwrap();
    let grants = text.replace(r#""order-created-topic""#, r#""another-topic""#);
    assert_ne!(grants, text);
    plugin_folder::replace(&of_first, grants.as_bytes()).unwrap();
    plugin_folder::change(&folders[1], plugin).unwrap();
    let suspended = async || {
        let answer = Request::get("/readyz").send(first.admin()?).await?.expect(503)?.text();
        ensure!(answer.contains("cannot run here") && answer.contains("does not grant"), "{answer}");
        Ok(())
    };
    eventually(suspended).await;
    let order = Request::post("/orders", r#"{"productId":1,"orderQty":1}"#.to_owned());
    order.send(second.http().unwrap()).await.unwrap().expect(201).unwrap();
    assert_eq!(host::metric(first, "relay_leads", "cmd-order").await.unwrap(), 1.0);
    eventually(async || {
        let overdue = host::get(second, "/v1/sagas?state=overdue").await?;
        ensure!(overdue["sagas"].as_array().is_some_and(|sagas| sagas.len() == 1), "{overdue}");
        Ok(())
    })
    .await;

    leader.stop().await;
    let _leader = host::spawn(first, &folders[0]);
    eventually(suspended).await;
    let refusal = host::cli_refuses(first, &["rollback", plugin]);
    assert!(refusal.contains("does not grant"), "{refusal}");
    assert_ne!(host::active(second, plugin).await.unwrap(), before);
    plugin_folder::replace(&of_first, hurried.as_bytes()).unwrap();
    taken_over(first, &host::active(second, plugin).await.unwrap()).await;
    host::ready(first).await;
}

async fn taken_over(target: &Target, digest: &str) {
    eventually(async || {
        let active = host::active(target, "order-orchestrator").await?;
        ensure!(active == digest, "{active} is active");
        Ok(())
    })
    .await;
}
