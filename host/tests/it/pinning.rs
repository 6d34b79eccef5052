//! Sagas in flight end on the version that started them, which is then retired.

use std::{ops::Range, path::Path};

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    plugin_folder::change,
    target::Target,
    topic::writer::{Draft, Writer},
};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};

use crate::support::{
    eventually,
    flow::{id, reaches},
    folder, guest,
    host::{self, active, get},
    stack::Own,
};

const PLUGIN: &str = "order-orchestrator";
const DATABASE: &str = "cmd-order";
const BEFORE: usize = 100;
const AFTER: usize = 20;
const ENDED: &str = "SELECT count(*) FROM saga.saga_done";

/// Places orders that are accepted at once. Their sagas cannot continue without the inventory.
async fn place(target: &Target, orders: Range<usize>) {
    for order in orders {
        let body = format!(r#"{{"orderId":"{}","productId":1,"orderQty":1}}"#, id(order));
        Request::post("/orders", body).send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    }
}

async fn swap(target: &Target, plugins: &Path) -> (String, String) {
    let before = active(target, PLUGIN).await.unwrap();
    change(plugins, PLUGIN).unwrap();
    let after = replaced(target, PLUGIN, &before).await;
    (before, after)
}

/// The digest that replaces `before` as the active one.
async fn replaced(target: &Target, plugin: &str, before: &str) -> String {
    eventually(async || {
        let now = active(target, plugin).await?;
        ensure!(now != before, "{before} is still active");
        Ok(now)
    })
    .await
}

/// The state of a version, with its sagas in flight.
async fn state(target: &Target, digest: &str) -> anyhow::Result<(String, i64)> {
    let shown = get(target, &format!("/v1/plugins/{PLUGIN}")).await?;
    let mut versions = shown["versions"].as_array().into_iter().flatten();
    let version =
        versions.find(|version| version["digest"] == digest).with_context(|| format!("gone: {shown}"))?;
    let sagas = version["sagasInFlight"].as_i64().context("no number")?;
    Ok((version["state"].as_str().unwrap_or_default().to_owned(), sagas))
}

/// The version of each step in the timelines of these orders.
async fn all_by(target: &Target, orders: Range<usize>, digest: &str) {
    for order in orders {
        let saga = get(target, &format!("/v1/sagas/order/{}", id(order))).await.unwrap();
        let steps = saga["timeline"].as_array().unwrap();
        assert!(steps.len() >= 2, "{saga}");
        assert!(steps.iter().all(|step| step["digest"] == digest), "not all by {digest}: {saga}");
    }
}

#[tokio::test]
async fn sagas_end_on_the_version_that_started_them() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&[PLUGIN]));
    let _host = host::run(target, &plugins).await;
    place(target, 0..BEFORE).await;
    let (first, second) = swap(target, &plugins).await;
    place(target, BEFORE..BEFORE + AFTER).await;
    assert_eq!(state(target, &first).await.unwrap(), ("draining".into(), 100));
    assert_eq!(state(target, &second).await.unwrap(), ("active".into(), 20));
    folder::add_plugin(&plugins, "inventory-command");
    reaches(target, DATABASE, ENDED, 120).await;
    all_by(target, 0..BEFORE, &first).await;
    all_by(target, BEFORE..BEFORE + AFTER, &second).await;
    assert_eq!(state(target, &first).await.unwrap(), ("retired".into(), 0));
}

/// A host that has never run the version loads it from the database.
#[tokio::test]
async fn the_version_of_a_saga_in_flight_survives_its_host() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&[PLUGIN]));
    let host = host::run(target, &plugins).await;
    place(target, 0..AFTER).await;
    let (first, second) = swap(target, &plugins).await;
    host.kill().await;
    folder::add_plugin(&plugins, "inventory-command");
    let _host = host::run(target, &plugins).await;
    reaches(target, DATABASE, ENDED, 20).await;
    all_by(target, 0..AFTER, &first).await;
    assert_eq!(active(target, PLUGIN).await.unwrap(), second);
}

#[tokio::test]
async fn a_policy_that_moves_sagas_has_the_active_version_end_them() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&[PLUGIN]));
    let policy = plugins.join(format!("{PLUGIN}.toml"));
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, format!("{text}\n[rollout]\nin_flight = \"move\"\n")).unwrap();
    let _host = host::run(target, &plugins).await;
    place(target, 0..1).await;
    let (first, second) = swap(target, &plugins).await;
    folder::add_plugin(&plugins, "inventory-command");
    reaches(target, DATABASE, ENDED, 1).await;
    let saga = get(target, &format!("/v1/sagas/order/{}", id(0))).await.unwrap();
    let steps: Vec<_> =
        saga["timeline"].as_array().unwrap().iter().map(|step| step["digest"].as_str()).collect();
    assert_eq!((steps.first(), steps.last()), (Some(&Some(&*first)), Some(&Some(&*second))), "{saga}");
}

/// A saga of the guest, started by the version that is active.
async fn start(target: &Target, key: &str) {
    let start = Request::post(format!("/misbehave/start-{key}"), String::new());
    start.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
}

/// Advances the saga.
async fn step(target: &Target, key: &str) {
    let draft = Draft { key: Some(key.to_owned()), ..Draft::text(format!("step-{key}")) };
    Writer::new(&target.kafka).unwrap().write(guest::TOPIC, &draft).await.unwrap();
}

async fn stepped(target: &Target, key: &str) -> String {
    eventually(async || {
        let saga = get(target, &format!("/v1/sagas/misbehaviour/{key}")).await?;
        ensure!(saga["state"] == "stepped", "{saga}");
        Ok(saga["digest"].as_str().context("no digest")?.to_owned())
    })
    .await
}

/// The next version leaves it with the version that has advanced it last.
#[tokio::test]
async fn a_saga_that_was_moved_stays_with_the_version_that_took_it_over() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let policy = plugins.join(format!("{}.toml", guest::PLUGIN));
    std::fs::write(&policy, format!("{}\n[rollout]\nin_flight = \"move\"\n", guest::POLICY)).unwrap();
    let target = &stack.target;
    let _host = host::run(target, &plugins).await;
    start(target, "1").await;
    let first = active(target, guest::PLUGIN).await.unwrap();
    guest::turn(&plugins, "well");
    let second = replaced(target, guest::PLUGIN, &first).await;
    step(target, "1").await;
    assert_eq!(stepped(target, "1").await, second);
}

/// The wait does not use up the one attempt that the policy allows.
#[tokio::test]
async fn a_saga_waits_for_a_version_that_cannot_be_loaded() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let target = &stack.target;
    let host = host::run(target, &plugins).await;
    start(target, "1").await;
    let first = active(target, guest::PLUGIN).await.unwrap();
    guest::turn(&plugins, "well");
    replaced(target, guest::PLUGIN, &first).await;
    host.kill().await;
    let database = target.postgres.parse::<PgConnectOptions>().unwrap().database(guest::PLUGIN);
    let mut database = database.connect().await.unwrap();
    let damage = "UPDATE saga.component SET body = 'x' || body WHERE digest = $1";
    sqlx::query(damage).bind(&first).execute(&mut database).await.unwrap();
    let host = host::run(target, &plugins).await;
    step(target, "1").await;
    let parked = async || {
        let shown = get(target, "/v1/parked").await?;
        let first = shown["parked"].as_array().context("no list")?.first().cloned();
        first.with_context(|| format!("nothing is parked: {shown}"))
    };
    for _ in 0..2 {
        let waits = eventually(async || {
            let waits = parked().await?;
            ensure!(waits["state"] == "retrying", "{waits}");
            Ok(waits)
        })
        .await;
        let reason = waits["reason"].as_str().unwrap();
        assert!(
            reason.contains("the saga stays with version") && reason.contains("not WebAssembly"),
            "{reason}"
        );
        host::cli(target, &["redrive", waits["id"].as_str().unwrap()]);
    }
    host.kill().await;
    let mend = "UPDATE saga.component SET body = substr(body, 2) WHERE digest = $1";
    sqlx::query(mend).bind(&first).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let _host = host::run(target, &plugins).await;
    if let Ok(waits) = parked().await {
        host::cli(target, &["redrive", waits["id"].as_str().unwrap()]);
    }
    assert_eq!(stepped(target, "1").await, first);
    assert!(parked().await.is_err());
}
