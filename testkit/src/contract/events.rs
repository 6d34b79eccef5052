//! `GET /orders/{orderId}/events` and `GET /notifications?orderId=`.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::system::{System, eventually, expect_utc, new_id};
use crate::caller::Request;
use crate::report::Report;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("events and notifications");
    report.run("a confirmed order has two events", events(system, 5, "ORDER_CONFIRMED")).await;
    report.run("a cancelled order has two events and a reason", events(system, 1, "ORDER_CANCELLED")).await;
    report.run("the events of an unknown order are 404", unknown_events(system)).await;
    report.run("a confirmed order has one notification", notified(system, 5, "OrderConfirmed")).await;
    report.run("a cancelled order has one notification", notified(system, 1, "OrderCancelled")).await;
    report.run("an order without notifications has an empty array", no_notifications(system)).await;
}

async fn events(system: &System, stock: i64, last: &str) -> Result<()> {
    let product = system.product(stock).await?;
    let (id, _) = system.ended_order(product, 2).await?;
    let reply = system.get(format!("/orders/{id}/events")).await?;
    let events = reply.array()?;
    let names: Vec<&str> = events.iter().filter_map(|event| event.get("event")?.as_str()).collect();
    ensure!(names == ["ORDER_CREATED", last], "{}", reply.short());
    for event in &events {
        expect_utc(event.get("at").unwrap_or(&Value::Null))?;
    }
    ensure!(reply.text().starts_with(r#"[{"event":"ORDER_CREATED","at":""#), "{}", reply.short());
    let reason = events[1].get("reason");
    let has_reason = reason.and_then(Value::as_str).is_some_and(|reason| !reason.is_empty());
    ensure!(has_reason == (last == "ORDER_CANCELLED"), "reason {reason:?}");
    let upper = system.get(format!("/orders/{}/events", id.to_uppercase())).await?;
    ensure!(upper.body == reply.body, "{} in upper case", upper.short());
    Ok(())
}

async fn unknown_events(system: &System) -> Result<()> {
    system.send(Request::get(format!("/orders/{}/events", new_id()))).await?.expect_problem(&[404], "")?;
    Ok(())
}

async fn notified(system: &System, stock: i64, kind: &str) -> Result<()> {
    let product = system.product(stock).await?;
    let (id, _) = system.ended_order(product, 2).await?;
    let reply = eventually(async || {
        let reply = system.get(format!("/notifications?orderId={id}")).await?;
        ensure!(reply.text() != "[]", "none");
        Ok(reply)
    })
    .await?;
    let at = reply.array()?.first().and_then(|item| item.get("receivedAt").cloned()).unwrap_or_default();
    expect_utc(&at)?;
    let expected = format!(r#"[{{"orderId":"{id}","message":"{kind}:{id}","receivedAt":{at}}}]"#);
    ensure!(reply.text() == expected, "{} instead of {expected}", reply.text());
    let upper = system.get(format!("/notifications?orderId={}", id.to_uppercase())).await?;
    ensure!(upper.body == reply.body, "{} in upper case", upper.short());
    Ok(())
}

async fn no_notifications(system: &System) -> Result<()> {
    let reply = system.get(format!("/notifications?orderId={}", new_id())).await?;
    ensure!(reply.text() == "[]", "{}", reply.short());
    Ok(())
}
