//! Deploying a component by replacing its file, while orders flow.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    plugin_folder::{change, replace},
    report::Report,
    target::Target,
    verify::{self, Scope},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{
    SOON, all_hold, eventually,
    flow::product,
    folder,
    host::{self, active, get},
    stack::Own,
};

const CLIENTS: usize = 4;
/// Orders of each client before and after the swap.
const EACH: usize = 10;
const PLUGIN: &str = "order-orchestrator";

/// Digests that the timeline of a saga names.
async fn digests(target: &Target, order: &str) -> anyhow::Result<BTreeSet<String>> {
    let saga = get(target, &format!("/v1/sagas/order/{order}")).await?;
    let steps = saga["timeline"].as_array().context("no timeline")?;
    Ok(steps.iter().filter_map(|step| step["digest"].as_str()).map(str::to_owned).collect())
}

/// One client: places orders one after the other, each followed to its end, until the swap is over.
async fn client(target: Target, product: i64, swapped: CancellationToken) -> anyhow::Result<Vec<String>> {
    let mut orders = Vec::new();
    let mut after = 0;
    while after < EACH {
        after += usize::from(swapped.is_cancelled());
        let body = format!(r#"{{"productId":{product},"orderQty":1}}"#);
        let order = Request::post("/orders", body).header("Prefer", "wait=30");
        let reply = order.send(target.http()?).await?.expect(201)?;
        ensure!(reply.member("orderStatus")? == "CONFIRMED", "{}", reply.short());
        orders.push(reply.member("orderId")?.as_str().context("no id")?.to_owned());
    }
    Ok(orders)
}

#[tokio::test]
async fn a_swap_under_load_fails_no_request_and_timelines_name_both_versions() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&[]));
    let _host = host::run(target, &plugins).await;
    let product = product(target, 1_000_000).await;
    let before = active(target, PLUGIN).await.unwrap();
    let (swapped, clients) = (CancellationToken::new(), TaskTracker::new());
    let running: Vec<_> =
        (0..CLIENTS).map(|_| clients.spawn(client(target.clone(), product, swapped.clone()))).collect();
    let after = swap(target, &plugins, PLUGIN, &before).await;
    swapped.cancel();
    let mut named = BTreeSet::new();
    for client in running {
        let orders = client.await.unwrap().unwrap_or_else(|error| panic!("{error:#}"));
        assert!(orders.len() >= EACH);
        named.extend(digests(target, orders.first().unwrap()).await.unwrap());
        named.extend(digests(target, orders.last().unwrap()).await.unwrap());
    }
    assert_eq!(named, BTreeSet::from([before, after]));
    let mut report = Report::silent();
    verify::check(target, &Scope::all(SOON), &mut report).await.unwrap();
    all_hold(&report);
}

/// Replaces the component by a changed one and waits until that is active.
async fn swap(target: &Target, plugins: &Path, plugin: &str, before: &str) -> String {
    change(plugins, plugin).unwrap();
    eventually(async || {
        let now = active(target, plugin).await?;
        ensure!(now != before, "{before} is still active");
        Ok(now)
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_not_a_component_is_rejected_and_the_active_version_keeps_running() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&["inventory-command", "inventory-query"]));
    let _host = host::run(target, &plugins).await;
    let before = active(target, "inventory-command").await.unwrap();
    replace(&plugins.join("inventory-command.wasm"), b"not a component").unwrap();
    let reason = eventually(async || {
        let shown = get(target, "/v1/plugins").await?;
        let plugins = shown["plugins"].as_array().context("no plugins")?;
        let plugin = plugins.iter().find(|plugin| plugin["name"] == "inventory-command").context("gone")?;
        let versions = plugin["versions"].as_array().context("no versions")?;
        let rejected =
            versions.iter().find(|version| version["state"] == "rejected").context("not rejected yet")?;
        Ok(rejected["reason"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(reason.contains("component"), "{reason}");
    assert_eq!(active(target, "inventory-command").await.unwrap(), before);
    let product = product(target, 7).await;
    eventually(async || Request::get(format!("/stocks/{product}")).send(target.http()?).await?.expect(200))
        .await;
}

/// Edits the policy as an operator does.
fn edit_policy(plugins: &Path, plugin: &str) {
    let path = plugins.join(format!("{plugin}.toml"));
    let text = std::fs::read_to_string(&path).unwrap();
    replace(&path, format!("# edited\n{text}").as_bytes()).unwrap();
}

/// The file of the newer version stays in the folder. Only a change of the file deploys it.
#[tokio::test]
async fn a_rollback_survives_a_restart_with_the_newer_file_in_the_folder() {
    let stack = Own::start().await;
    let (target, plugins) = (&stack.target, folder::plugins(&["inventory-command", "inventory-query"]));
    let host = host::run(target, &plugins).await;
    let plugin = "inventory-command";
    let first = active(target, plugin).await.unwrap();
    assert!(
        host::cli_refuses(target, &["rollback", plugin]).contains("no version of inventory-command before")
    );
    let second = swap(target, &plugins, plugin, &first).await;
    let printed = host::cli(target, &["rollback", plugin]);
    assert!(
        printed.contains(&format!("{}… (0.1.0) is active, was {}…; generation 3", &first[..6], &second[..6])),
        "{printed}"
    );
    product(target, 7).await;
    edit_policy(&plugins, plugin);
    eventually(async || {
        let shown = get(target, &format!("/v1/plugins/{plugin}")).await?;
        ensure!(shown["generation"] == 4, "the edited policy is not active: {shown}");
        Ok(())
    })
    .await;
    assert_eq!(active(target, plugin).await.unwrap(), first, "an edited policy deploys no file");
    host.stop().await;
    let _host = host::run(target, &plugins).await;
    assert_eq!(active(target, plugin).await.unwrap(), first);
    product(target, 7).await;
    host::cli(target, &["rollback", plugin, "--to", &second[..12]]);
    assert_eq!(active(target, plugin).await.unwrap(), second);
    assert!(host::cli_refuses(target, &["rollback", plugin, "--to", &second]).contains("already active"));
    assert!(
        host::cli_refuses(target, &["rollback", plugin, "--to", "00000000"])
            .contains("no version 00000000 of")
    );
    for nonsense in ["", "nonsense", "%"] {
        assert!(
            host::cli_refuses(target, &["rollback", plugin, "--to", nonsense]).contains("hexadecimal digits")
        );
    }
    let third = swap(target, &plugins, plugin, &second).await;
    assert_ne!(third, first);
}
