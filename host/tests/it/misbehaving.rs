//! A plugin that stops, loops, allocates or lies fails only the request or record that made it do so, and the
//! host reports why. The rest of its batch, other plugins and the host continue.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::{Reply, Request},
    target::Target,
    topic::writer::{Draft, Writer},
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::support::{
    eventually, flow, folder,
    guest::{self, DONE, MISBEHAVIOURS, PLUGIN, TOPIC},
    host::{self, Host, get},
    stack::Own,
};

const FINE: &str = "fine";
/// Occupies its lane for as long as its policy lets a statement run.
const SLOW: &str = "sleep-in-sql";
const PARTITION: i32 = 0;

/// A host with a plugin that misbehaves and one that does not.
struct House {
    _host: Host,
    stack: Own,
    log: PathBuf,
}

impl House {
    async fn new() -> Self {
        let (stack, plugins) = (Own::start().await, folder::plugins(&["inventory-command"]));
        guest::add(&plugins);
        let (host, log) = host::run_logging_lanes(&stack.target, &plugins).await;
        Self { _host: host, stack, log }
    }

    /// Asserts that the host is ready, and that the other plugin works.
    async fn works(&self) {
        let target = &self.stack.target;
        Request::get("/readyz").send(target.admin().unwrap()).await.unwrap().expect(200).unwrap();
        flow::product(target, 1).await;
    }
}

/// Makes the plugin misbehave on a request.
async fn misbehave(target: Target, how: &str) -> Reply {
    Request::post(format!("/misbehave/{how}"), "{}").send(target.http().unwrap()).await.unwrap()
}

/// The caller gets a 500 and the id under which the log has the reason; the log names plugin and limit. If
/// the host did not stop a plugin in time, the answer would be 503.
fn blamed(reply: Reply, says: &str, log: &Path) {
    let reply = reply.expect_problem(&[500], "the service failed on this request; nothing was done").unwrap();
    let id = reply.member("requestId").unwrap().as_str().unwrap().to_owned();
    let log = std::fs::read_to_string(log).unwrap();
    let line = log.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("no {id} in the log"));
    assert!(
        line.contains(says) && line.contains(PLUGIN) && line.contains("ERROR"),
        "{}: {line}",
        reply.request_line
    );
}

/// Waits until a statement of the plugin sleeps. Requests that arrive meanwhile share the next batch.
async fn asleep(target: &Target) {
    let mut postgres = PgConnection::connect(&target.postgres).await.unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity
                     WHERE usename = 'plugin_misbehaving' AND state = 'active' AND query LIKE '%pg_sleep%'";
    eventually(async || {
        let count: i64 = sqlx::query_scalar(sleeping).fetch_one(&mut postgres).await?;
        ensure!(count > 0, "no statement sleeps");
        Ok(())
    })
    .await;
    postgres.close().await.unwrap();
}

fn a_batch_was_halved(log: &Path) {
    assert!(
        std::fs::read_to_string(log).unwrap().contains("unit halved"),
        "no batch had more than one request or record"
    );
}

#[tokio::test]
async fn a_request_that_misbehaves_fails_alone_and_the_log_names_its_limit() {
    let house = House::new().await;
    let target = &house.stack.target;
    for (how, says) in MISBEHAVIOURS {
        let (reply, _) = tokio::join!(misbehave(target.clone(), how), flow::product(target, 1));
        blamed(reply, says, &house.log);
        misbehave(target.clone(), FINE).await.expect(201).unwrap();
    }
    let slow = tokio::spawn(misbehave(target.clone(), SLOW));
    asleep(target).await;
    let mut replies = JoinSet::new();
    for (how, says) in MISBEHAVIOURS {
        for (how, says) in [(how, Some(says)), (FINE, None)] {
            let target = target.clone();
            replies.spawn(async move { (misbehave(target, how).await, says) });
        }
    }
    flow::product(target, 1).await;
    for (reply, says) in replies.join_all().await {
        match says {
            Some(says) => blamed(reply, says, &house.log),
            None => drop(reply.expect(201).unwrap()),
        }
    }
    slow.await.unwrap().expect(500).unwrap();
    a_batch_was_halved(&house.log);
    let fine = 2 * MISBEHAVIOURS.len() as u64;
    eventually(async || {
        let done = flow::records(target, DONE).await;
        ensure!(done == fine, "{done} messages instead of {fine}");
        Ok(())
    })
    .await;
    house.works().await;
}

/// Writes a record; all of them go to one partition.
async fn write(writer: &Writer, key: &str, how: &str) {
    let draft = Draft { key: Some(key.to_owned()), partition: Some(PARTITION), ..Draft::text(how) };
    writer.write(TOPIC, &draft).await.unwrap();
}

/// The states and reasons of a key's parked deliveries, the oldest first.
fn parked_of<'a>(parked: &'a [Value], key: &str) -> Vec<(&'a str, &'a str)> {
    let of_key = parked.iter().rev().filter(|entry| entry["key"] == key);
    of_key.map(|entry| (entry["state"].as_str().unwrap(), entry["reason"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_record_that_misbehaves_is_parked_with_its_key_and_the_partition_continues() {
    let house = House::new().await;
    let target = &house.stack.target;
    let writer = Writer::new(&target.kafka).unwrap();
    write(&writer, "slow", SLOW).await;
    asleep(target).await;
    for (how, _) in MISBEHAVIOURS {
        write(&writer, how, how).await;
        write(&writer, how, FINE).await;
        write(&writer, FINE, FINE).await;
    }
    flow::product(target, 1).await;
    let expected = 1 + 2 * MISBEHAVIOURS.len();
    let parked = eventually(async || {
        let shown = get(target, &format!("/v1/parked?plugin={PLUGIN}")).await?;
        let parked = shown["parked"].as_array().context("no list")?.clone();
        ensure!(parked.len() == expected, "{} parked instead of {expected}: {shown}", parked.len());
        let done = flow::records(target, DONE).await;
        ensure!(done == MISBEHAVIOURS.len() as u64, "{done} messages");
        Ok(parked)
    })
    .await;
    for (how, says) in MISBEHAVIOURS {
        let of_key = parked_of(&parked, how);
        assert!(of_key[0].0 == "dead_letter" && of_key[0].1.contains(says), "{how}: {of_key:?}");
        assert_eq!(of_key[1..], [("queued", "an earlier delivery of its key is parked")]);
    }
    a_batch_was_halved(&house.log);
    house.works().await;
}
