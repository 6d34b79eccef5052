//! Hand-over: records reach the lanes of the host that sends them without Kafka. Whatever happens meanwhile, each
//! is handled once, and in its order.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::ensure;
use saga_testkit::{
    caller::Request,
    plugin_folder,
    report::Report,
    service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED},
    target::Target,
    topic::{
        groups,
        writer::{Draft, Writer},
    },
    verify::{self, Scope},
};
use tokio::task::JoinSet;

use crate::support::{
    SOON, all_hold, eventually,
    flow::{self, Products},
    folder,
    host::{self, spawn_with_fault},
    stack::Own,
};

const PLENTY: usize = 1_000_000;
const CLIENTS: usize = 8;
/// Who reads what others publish.
const READERS: [&str; 3] = ["inventory-command", "order-orchestrator", "order-query"];
const PARKED: &str = "SELECT count(*) FROM saga.parked";
const LEADERSHIP: &str = "SELECT epoch FROM saga.lane WHERE slot = 0";

/// Orders that flow until they are stopped, each sent again until it is accepted.
struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    async fn start(target: &Target) -> Self {
        let product = flow::product(target, PLENTY).await;
        let (stop, accepted) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, accepted, address) =
                (stop.clone(), accepted.clone(), target.http().unwrap().to_owned());
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let id = uuid::Uuid::now_v7();
                    let body = format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":1}}"#);
                    let order = Request::post("/orders", body);
                    flow::accepted(order, address.clone()).await.unwrap_or_else(|error| panic!("{error:#}"));
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, accepted, clients }
    }

    /// Waits until so many more orders are accepted.
    async fn goes_on(&self, orders: u64) {
        let before = self.accepted.load(Ordering::Relaxed);
        eventually(async || {
            let accepted = self.accepted.load(Ordering::Relaxed) - before;
            ensure!(accepted >= orders, "{accepted} orders instead of {orders} are accepted");
            Ok(())
        })
        .await;
    }

    /// Ends the load. Every invariant must hold.
    async fn ends(self, target: &Target) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
        let mut report = Report::silent();
        let (_, rows) = verify::check(target, &Scope::all(SOON), &mut report).await.unwrap();
        all_hold(&report);
        assert_eq!(rows.orders.len() as u64, self.accepted.load(Ordering::Relaxed));
    }
}

async fn handed_over(target: &Target, plugin: &str) -> f64 {
    let label = format!("plugin=\"{plugin}\"");
    host::metric(target, "deliveries_handed_over_total", &label).await.unwrap()
}

/// Waits until each reader has got many more deliveries by hand-over.
async fn hands_over(target: &Target) {
    let mut before = Vec::new();
    for plugin in READERS {
        before.push(handed_over(target, plugin).await);
    }
    eventually(async || {
        for (plugin, before) in READERS.iter().zip(&before) {
            let count = handed_over(target, plugin).await - before;
            ensure!(count >= 50.0, "{count} deliveries were handed over to {plugin}");
        }
        Ok(())
    })
    .await;
}

async fn discard_all(target: &Target) {
    let admin = target.admin().unwrap();
    loop {
        let page = Request::get("/v1/parked").send(admin).await.unwrap().expect(200).unwrap();
        let page: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
        let entries = page["parked"].as_array().unwrap();
        if entries.is_empty() {
            return;
        }
        for entry in entries {
            let path = format!("/v1/parked/{}/discard", entry["id"].as_str().unwrap());
            Request::post(&path, "{}").send(admin).await.unwrap();
        }
    }
}

fn set_policy(plugins: &Path, plugin: &str, change: impl Fn(&str) -> String) {
    let file = plugins.join(format!("{plugin}.toml"));
    let text = std::fs::read_to_string(&file).unwrap();
    plugin_folder::replace(&file, change(&text).as_bytes()).unwrap();
}

/// Without the setting nothing is handed over, and nothing else changes.
#[tokio::test]
async fn it_is_switched_on_and_off_by_the_policy_while_orders_flow() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&[]);
    let _host = host::run(target, &plugins).await;
    let load = Load::start(target).await;
    hands_over(target).await;
    for _ in 0..3 {
        set_policy(&plugins, "order-orchestrator", |text| text.replace("sole_writer", "# sole_writer"));
        eventually(async || {
            let before = handed_over(target, "inventory-command").await;
            load.goes_on(20).await;
            let count = handed_over(target, "inventory-command").await - before;
            ensure!(count == 0.0, "{count} deliveries were handed over");
            Ok(())
        })
        .await;
        set_policy(&plugins, "order-orchestrator", |text| text.replace("# sole_writer", "sole_writer"));
        hands_over(target).await;
    }
    load.ends(target).await;
}

/// Others may write to a topic although a policy denies it: then its records come from Kafka alone.
#[tokio::test]
async fn records_of_others_in_the_same_partitions_are_parked_under_kills_and_end_the_hand_over() {
    let stack = Own::start().await;
    let target = &stack.target;
    let plugins = folder::plugins(&[]);
    let mut host = host::run(target, &plugins).await;
    let load = Load::start(target).await;
    hands_over(target).await;
    let writer = Writer::new(&target.kafka).unwrap();
    let mut written = 0_i64;
    for _ in 0..3 {
        for partition in 0..6 {
            for topic in [ORDER_CREATED, DEDUCTED] {
                let draft = Draft { partition: Some(partition), ..Draft::text("not an event of an order") };
                writer.write(topic, &draft).await.unwrap();
            }
            written += 1;
        }
        eventually(async || {
            let before = handed_over(target, "inventory-command").await;
            load.goes_on(20).await;
            let count = handed_over(target, "inventory-command").await - before;
            ensure!(count == 0.0, "{count} deliveries were handed over beside records of others");
            Ok(())
        })
        .await;
        host.kill().await;
        host = host::run(target, &plugins).await;
        hands_over(target).await;
    }
    for database in ["cmd-inventory", "cmd-order"] {
        flow::reaches(target, database, PARKED, written).await;
    }
    discard_all(target).await;
    load.ends(target).await;
}

#[tokio::test]
async fn a_host_that_dies_between_hand_over_and_send_loses_and_repeats_nothing() {
    let stack = Own::start().await;
    let target = &stack.target;
    let setting_up = host::run(target, &folder::plugins(&[])).await;
    let products = Products::new(target).await;
    setting_up.stop().await;
    let host = spawn_with_fault(target, &folder::plugins(&[]), "handed-over");
    let orders = products.place(target);
    host.dies().await;
    let _host = host::run(target, &folder::plugins(&[])).await;
    flow::all_accepted(orders).await;
    flow::ends_as_expected(target).await;
}

/// The leader is stopped until another host leads, and continues in the middle of what it was handing over.
#[tokio::test]
async fn a_leader_that_loses_the_lead_while_it_hands_over_breaks_nothing() {
    let stack = Own::start().await;
    let target = &stack.target;
    let second = host::addressed(target);
    let plugins = folder::plugins(&[]);
    let first = host::run(target, &plugins).await;
    let other = host::run(&second, &plugins).await;
    groups::shared(&target.kafka, 2, SOON).await.unwrap();
    let load = Load::start(&second).await;
    // The one that was ready first leads, then they take turns.
    for leader in [&first, &other, &first, &other] {
        load.goes_on(100).await;
        let led = flow::count(target, "cmd-order", LEADERSHIP).await;
        leader.freeze();
        flow::reaches(target, "cmd-order", LEADERSHIP, led + 1).await;
        leader.thaw();
    }
    load.goes_on(100).await;
    load.ends(target).await;
}

/// A consumer of Kafka alone sees what the lanes have handled.
#[tokio::test]
async fn kafka_gets_each_record_that_was_handed_over() {
    let stack = Own::start().await;
    let target = &stack.target;
    let _host = host::run(target, &folder::plugins(&[])).await;
    let load = Load::start(target).await;
    hands_over(target).await;
    let accepted = load.accepted.clone();
    load.ends(target).await;
    let accepted = accepted.load(Ordering::Relaxed);
    assert_eq!(flow::records(target, ORDER_CREATED).await, accepted);
    assert_eq!(flow::records(target, NOTIFICATIONS).await, accepted);
}
