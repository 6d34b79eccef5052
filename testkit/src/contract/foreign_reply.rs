//! Replies and notifications of other services: early, late, unknown, repeated, contradicting.

use anyhow::{Result, ensure};

use super::system::{System, about, eventually, new_id};
use crate::report::Report;
use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED};
use crate::topic::writer::Draft;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("replies and notifications of other services");
    report.run("a notification before its order-created is kept by order-query", early(system)).await;
    report.run("of two notifications of another service the first counts", contradicting(system)).await;
    report
        .run(
            "a rejection for a confirmed order changes nothing and is recorded",
            late(system, 10, REJECTED, "CONFIRMED"),
        )
        .await;
    report
        .run(
            "a deduction for a cancelled order changes nothing and is recorded",
            late(system, 1, DEDUCTED, "CANCELLED"),
        )
        .await;
    report
        .run("a second reply changes nothing and is recorded", late(system, 10, DEDUCTED, "CONFIRMED"))
        .await;
    report.run("a reply for an unknown order changes nothing and is recorded", unknown(system)).await;
    report.run("a notification of another service is kept as it is", notification(system)).await;
    report.run("one id from two sources is two records", two_sources(system)).await;
    report.run("one id from one source twice is one record", one_source(system)).await;
}

fn reply(id: &str) -> Draft {
    Draft::text(format!(r#"{{"orderId":"{id}","extra":true}}"#))
}

async fn early(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    system.write(NOTIFICATIONS, Draft::text(format!("OrderConfirmed:{}", id.to_uppercase()))).await?;
    system.quiet().await?;
    let value = format!(
        r#"{{"orderId":"{id}","productId":{product},"orderQty":2,"timestamp":"2026-11-22T19:28:00Z"}}"#
    );
    system.write(ORDER_CREATED, Draft::text(value)).await?;
    system.await_status(&id, "CONFIRMED").await?;
    let shown = system.get(format!("/orders/{id}")).await?;
    ensure!(shown.member("productId")? == product && shown.member("orderQty")? == 2, "{}", shown.short());
    Ok(())
}

/// As the original does after a second reply.
async fn contradicting(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    let value = format!(
        r#"{{"orderId":"{id}","productId":{product},"orderQty":2,"timestamp":"2026-11-22T19:28:00Z"}}"#
    );
    system.write(ORDER_CREATED, Draft::text(value)).await?;
    let notification = |end: &str, partition, timestamp_ms| Draft {
        partition: Some(partition),
        timestamp_ms: Some(timestamp_ms),
        ..Draft::text(format!("{end}:{id}"))
    };
    system.write(NOTIFICATIONS, notification("OrderConfirmed", 1, 1_795_375_680_001)).await?;
    system.write(NOTIFICATIONS, notification("OrderCancelled", 0, 1_795_375_680_000)).await?;
    system.quiet().await?;
    system.await_status(&id, "CANCELLED").await
}

async fn late(system: &System, stock: i64, topic: &str, status: &str) -> Result<()> {
    let product = system.product(stock).await?;
    let (id, ended) = system.ended_order(product, 2).await?;
    ensure!(ended == status, "{ended}");
    system.quiet().await?;
    let (mark, recorded) = (system.mark().await?, system.ignored("cmd-order", &id).await?);
    let events = system.get(format!("/orders/{id}/events")).await?.body;
    system.write(topic, reply(&id.to_uppercase())).await?;
    let records = system.since(&mark).await?;
    ensure!(about(&records, NOTIFICATIONS, &id).is_empty(), "a second notification");
    ensure!(system.get(format!("/orders/{id}/events")).await?.body == events, "another event");
    system.await_status(&id, status).await?;
    let after = system.ignored("cmd-order", &id).await?;
    ensure!(after == recorded + 1, "recorded {} times", after - recorded);
    Ok(())
}

async fn unknown(system: &System) -> Result<()> {
    for topic in [DEDUCTED, REJECTED] {
        let (id, mark) = (new_id(), system.mark().await?);
        system.quiet().await?;
        let rows = system.databases.written_rows("cmd-order").await?;
        system.write(topic, reply(&id)).await?;
        let records = system.since(&mark).await?;
        ensure!(about(&records, NOTIFICATIONS, &id).is_empty(), "a notification");
        ensure!(system.databases.written_rows("cmd-order").await? == rows, "a row was written");
        let recorded = system.ignored("cmd-order", &id).await?;
        ensure!(recorded == 1, "recorded {recorded} times");
    }
    Ok(())
}

async fn kept(system: &System, order: &str, count: usize) -> Result<Vec<serde_json::Value>> {
    eventually(async || {
        let kept = system.get(format!("/notifications?orderId={order}")).await?.array()?;
        ensure!(kept.len() == count, "{} instead of {count}", kept.len());
        Ok(kept)
    })
    .await
}

async fn notification(system: &System) -> Result<()> {
    let id = new_id();
    let message = format!("OrderCancelled:{}", id.to_uppercase());
    system.write(NOTIFICATIONS, Draft::text(message.clone())).await?;
    let kept = kept(system, &id, 1).await?;
    ensure!(kept[0]["message"] == message && kept[0]["orderId"] == id, "{kept:?}");
    Ok(())
}

fn identified(order: &str, source: &str, id: &str) -> Draft {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", id),
        header("ce_source", source),
        header("ce_type", "order-notification"),
    ];
    Draft { headers, key: Some(order.to_owned()), ..Draft::text(format!("OrderConfirmed:{order}")) }
}

async fn two_sources(system: &System) -> Result<()> {
    let (first, second, id) = (new_id(), new_id(), new_id());
    system.write(NOTIFICATIONS, identified(&first, "/one", &id)).await?;
    system.write(NOTIFICATIONS, identified(&second, "/two", &id)).await?;
    kept(system, &first, 1).await?;
    kept(system, &second, 1).await?;
    Ok(())
}

async fn one_source(system: &System) -> Result<()> {
    let (order, id) = (new_id(), new_id());
    for _ in 0..3 {
        system.write(NOTIFICATIONS, identified(&order, "/one", &id)).await?;
    }
    system.quiet().await?;
    kept(system, &order, 1).await?;
    Ok(())
}
