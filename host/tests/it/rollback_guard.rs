//! The host rolls back from a new version that fails again and again. The previous version handles what it
//! has parked.

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    target::Target,
    topic::writer::{Draft, Writer},
};

use crate::support::{
    eventually, flow, folder,
    guest::{self, DONE, PLUGIN, TOPIC},
    host::{self, get},
    stack::Own,
};

/// Records before the failing version is active, and after.
const RECORDS: u64 = 20;

async fn write(writer: &Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let draft = Draft { key: Some(number.to_string()), ..Draft::text("fine") };
        writer.write(TOPIC, &draft).await.unwrap();
    }
}

/// Waits until everything was handled and nothing is parked.
async fn all_done(target: &Target) {
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done == 2 * RECORDS, "{done} messages instead of {}", 2 * RECORDS);
        let parked = get(target, "/v1/parked").await?;
        ensure!(parked["parked"].as_array().is_some_and(Vec::is_empty), "{parked}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_version_that_fails_at_everything_is_rolled_back_and_nothing_is_lost() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let target = &stack.target;
    let _host = host::run(target, &plugins).await;
    let writer = Writer::new(&target.kafka).unwrap();
    let good = host::active(target, PLUGIN).await.unwrap();
    write(&writer, 0..RECORDS).await;
    guest::turn(&plugins, "evil");
    eventually(async || {
        ensure!(host::active(target, PLUGIN).await? != good, "the failing version is not active");
        Ok(())
    })
    .await;
    write(&writer, RECORDS..2 * RECORDS).await;
    let reason = eventually(async || {
        let shown = get(target, &format!("/v1/plugins/{PLUGIN}")).await?;
        let versions = shown["versions"].as_array().context("no versions")?;
        ensure!(versions[0]["digest"] == good.as_str(), "{shown}");
        let rejected =
            versions.iter().find(|version| version["state"] == "rejected").context("none is rejected")?;
        Ok(rejected["reason"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    for says in ["5 deliveries failed in a row", "in an evil mood", "is active again"] {
        assert!(reason.contains(says), "{reason}");
    }
    assert!(host::cli(target, &["plugins"]).contains("5 deliveries failed in a row"));
    all_done(target).await;
}

/// The version fails at deliveries only, so that sagas start under it. They must not stay with it.
#[tokio::test]
async fn sagas_of_a_version_that_was_rolled_back_move_to_the_previous_one() {
    let (stack, plugins) = (Own::start().await, folder::new("plugins"));
    guest::add(&plugins);
    let target = &stack.target;
    let _host = host::run(target, &plugins).await;
    let good = host::active(target, PLUGIN).await.unwrap();
    guest::turn(&plugins, "late");
    let late = eventually(async || {
        let now = host::active(target, PLUGIN).await?;
        ensure!(now != good, "the new version is not active");
        Ok(now)
    })
    .await;
    for number in 0..RECORDS {
        let start = Request::post(format!("/misbehave/start-{number}"), String::new());
        start.send(target.http().unwrap()).await.unwrap().expect(201).unwrap();
    }
    write(&Writer::new(&target.kafka).unwrap(), 0..RECORDS).await;
    all_done(target).await;
    assert_eq!(host::active(target, PLUGIN).await.unwrap(), good);
    assert!(host::cli(target, &["plugins"]).contains(&format!("{}…", &late[..6])));
}
