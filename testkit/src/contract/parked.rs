//! Records that no plugin can handle: they are parked, where a person sees them, while the rest of the
//! partition continues.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::host_api::items;
use super::system::{PARKED, System, eventually, new_id};
use crate::caller::Request;
use crate::report::Report;
use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, SERVICES, STOCK_CREATED};
use crate::topic::writer::Draft;

const PARTITION: i32 = 0;
const LARGE: usize = 900_000;
const TOO_LARGE: usize = 2_000_000;

/// The position of a bad record.
struct Bad {
    topic: &'static str,
    offset: i64,
}

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("parked deliveries");
    for (what, value) in bad_orders() {
        report
            .run(
                format!("{what}: parked, and the next record is handled"),
                parked(system, ORDER_CREATED, value),
            )
            .await;
    }
    report.run("a reply that is not JSON is parked", parked(system, DEDUCTED, Some(b"oops".to_vec()))).await;
    report
        .run(
            "a stock record of wrong types is parked",
            parked(system, STOCK_CREATED, Some(br#"{"productId":"x","currentQty":1}"#.to_vec())),
        )
        .await;
    report
        .run(
            "a notification that is malformed is parked",
            parked(system, NOTIFICATIONS, Some(b"Hello".to_vec())),
        )
        .await;
    report.run("a good order of 900 KB is handled", large_order(system)).await;
    report.run("a redrive of a delivery that still fails parks it again", redriven(system)).await;
}

fn bad_orders() -> Vec<(&'static str, Option<Vec<u8>>)> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    vec![
        ("not JSON", text("not json")),
        ("an empty value", text("")),
        ("a tombstone", None),
        ("an array", text("[]")),
        ("no members", text("{}")),
        (
            "a number for orderId",
            text(r#"{"orderId":5,"productId":1,"orderQty":1,"timestamp":"2026-11-22T19:28:00Z"}"#),
        ),
        (
            "an orderId that is not a UUID",
            text(r#"{"orderId":"a","productId":1,"orderQty":1,"timestamp":"2026-11-22T19:28:00Z"}"#),
        ),
        (
            "a text for productId",
            text(
                r#"{"orderId":"0193a1b2-0000-7000-8000-00000000abcd","productId":"x","orderQty":1,
                    "timestamp":"2026-11-22T19:28:00Z"}"#,
            ),
        ),
        ("bytes that are not UTF-8", Some(vec![0xff, 0xfe, 0x00])),
        ("20,000 brackets", Some("[".repeat(20_000).into_bytes())),
        ("900 KB of nothing", Some(vec![b'x'; LARGE])),
        ("2 MB of nothing", Some(vec![b'x'; TOO_LARGE])),
    ]
}

/// Writes a bad record and, for orders, a good one after it. Every service that reads the topic must park the
/// bad one.
async fn parked(system: &System, topic: &'static str, value: Option<Vec<u8>>) -> Result<()> {
    let too_large = value.as_ref().is_some_and(|value| value.len() >= TOO_LARGE);
    let written = system.write(topic, Draft { value, partition: Some(PARTITION), ..Draft::default() }).await;
    if too_large && written.is_err() {
        return Ok(());
    }
    let bad = Bad { topic, offset: written?.1 };
    if topic == ORDER_CREATED {
        good_order(system, String::new()).await?;
    }
    for service in SERVICES.iter().filter(|service| service.consumes.contains(&topic)) {
        let entry = entry_of(system, service.plugin, &bad).await?;
        discard(system, &entry).await?;
    }
    system.quiet().await
}

async fn good_order(system: &System, note: String) -> Result<()> {
    let (product, id) = (system.product(5).await?, new_id());
    let value = format!(
        r#"{{"orderId":"{id}","productId":{product},"orderQty":1,
            "timestamp":"2026-11-22T19:28:00Z","note":"{note}"}}"#
    );
    system.write(ORDER_CREATED, Draft { partition: Some(PARTITION), ..Draft::text(value) }).await?;
    // Its end is for the service to decide that has created it.
    system.await_status(&id, "PENDING_CONFIRMATION").await.context("the record after it")?;
    system.await_quantity(product, 4).await.context("the record after it")
}

async fn large_order(system: &System) -> Result<()> {
    good_order(system, "x".repeat(LARGE)).await
}

/// The offset of a parked delivery, from the member `offset` or `position`.
fn offset(entry: &Value) -> Option<i64> {
    entry.get("offset").or_else(|| entry.get("position"))?.as_i64()
}

async fn entry_of(system: &System, plugin: &str, bad: &Bad) -> Result<Value> {
    eventually(async || {
        let reply = system.admin(Request::get(PARKED)).await?.expect(200)?;
        let is_it = |entry: &Value| {
            entry["plugin"] == plugin && entry["topic"] == bad.topic && offset(entry) == Some(bad.offset)
        };
        let found = items(&reply)?.into_iter().find(is_it);
        let entry = found.with_context(|| {
            format!("{}/{PARTITION}/{} is not parked by {plugin}: {}", bad.topic, bad.offset, reply.short())
        })?;
        ensure!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "no reason: {entry}");
        Ok(entry)
    })
    .await
}

async fn discard(system: &System, entry: &Value) -> Result<()> {
    let path = format!("{PARKED}/{}", path_id(entry)?);
    system.admin(Request::get(&path)).await?.expect(200)?;
    let reply = system.admin(Request::new("POST", format!("{path}/discard"))).await?;
    ensure!((200..300).contains(&reply.status), "{}: {} {}", reply.request_line, reply.status, reply.short());
    system.admin(Request::get(&path)).await?.expect_problem(&[404], "")?;
    Ok(())
}

fn path_id(entry: &Value) -> Result<String> {
    match entry.get("id") {
        Some(Value::String(id)) => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        _ => anyhow::bail!("no id: {entry}"),
    }
}

async fn redriven(system: &System) -> Result<()> {
    let written = system
        .write(NOTIFICATIONS, Draft { partition: Some(PARTITION), ..Draft::text("Hello again") })
        .await?;
    let bad = Bad { topic: NOTIFICATIONS, offset: written.1 };
    let entry = entry_of(system, "notification", &bad).await?;
    let attempts = entry["attempts"].as_i64().unwrap_or_default();
    let reply = system.admin(Request::new("POST", format!("{PARKED}/{}/redrive", path_id(&entry)?))).await?;
    ensure!((200..300).contains(&reply.status), "{}: {} {}", reply.request_line, reply.status, reply.short());
    let again = eventually(async || {
        let again = entry_of(system, "notification", &bad).await?;
        ensure!(again["attempts"].as_i64().unwrap_or_default() > attempts, "not retried: {again}");
        Ok(again)
    })
    .await?;
    discard(system, &again).await
}
