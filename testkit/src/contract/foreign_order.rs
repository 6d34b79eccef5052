//! Orders as the original services send them: without key and headers, with other members, and with other
//! forms of the same values.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::system::{Mark, System, about, eventually, new_id};
use crate::caller::Request;
use crate::report::Report;
use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED, STOCK_UPDATED};
use crate::topic::{Record, writer::Draft};

const TIMESTAMP: &str = "2026-11-22T19:28:00.1234567Z";

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("orders of other services");
    report.run("no key, no headers, more members, another order, an upper-case id", odd_form(system)).await;
    for timestamp in
        ["2026-11-22T19:28:00Z", "2026-11-22T19:28:00.1Z", "2026-11-22T19:28:00.123456Z", TIMESTAMP]
    {
        report.run(format!("timestamp {timestamp}"), handled(system, timestamp)).await;
    }
    report.run("the same order twice, without an id, is deducted once", twice(system)).await;
    report.run("an order that comes again gets the same reply, whatever is in stock", again(system)).await;
    for qty in [0, -5, -2_147_483_648] {
        report
            .run(
                format!("orderQty {qty} is rejected with a reason, and nothing deducted"),
                bad_quantity(system, qty),
            )
            .await;
    }
    report.run("a product that does not exist is rejected with a reason", unknown_product(system)).await;
    report.run("the sender's trace continues", traced(system)).await;
    report.run("a keyed record with headers of its own is handled", keyed(system)).await;
}

fn order(id: &str, product: i64, qty: i64, timestamp: &str) -> Draft {
    Draft::text(format!(
        r#"{{"orderId":"{id}","productId":{product},"orderQty":{qty},"timestamp":"{timestamp}"}}"#
    ))
}

async fn odd_form(system: &System) -> Result<()> {
    let (product, id, mark) = (system.product(10).await?, new_id(), system.mark().await?);
    let value = format!(
        r#" {{"note":{{"a":[1,null]}}, "timestamp":"{TIMESTAMP}","orderQty": 3,"currency":"€",
            "orderId":"{}","productId":{product}}}"#,
        id.to_uppercase()
    );
    system.write(ORDER_CREATED, Draft::text(value)).await?;
    system.await_quantity(product, 7).await?;
    system.await_status(&id, "PENDING_CONFIRMATION").await?;
    system.await_status(&id.to_uppercase(), "PENDING_CONFIRMATION").await?;
    let shown = system.get(format!("/orders/{id}")).await?;
    ensure!(
        shown.text().starts_with(&format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":3,"#)),
        "{}",
        shown.short()
    );
    let records = system.since(&mark).await?;
    let replies = about(&records, DEDUCTED, &id);
    ensure!(replies.len() == 1 && replies[0].text() == format!(r#"{{"orderId":"{id}"}}"#), "{replies:?}");
    ensure!(replies[0].key_text() == Some(&id), "key {:?}", replies[0].key_text());
    let notified = about(&records, NOTIFICATIONS, &id).len();
    ensure!(notified == 0, "{notified} notifications of an order of another service");
    Ok(())
}

async fn handled(system: &System, timestamp: &str) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    system.write(ORDER_CREATED, order(&id, product, 3, timestamp)).await?;
    system.await_quantity(product, 7).await?;
    // As the service does that has created the order.
    system.write(NOTIFICATIONS, Draft::text(format!("OrderConfirmed:{}", id.to_uppercase()))).await?;
    system.await_status(&id, "CONFIRMED").await
}

async fn twice(system: &System) -> Result<()> {
    let (product, id, mark) = (system.product(10).await?, new_id(), system.mark().await?);
    for partition in [0, 0, 1] {
        let draft = Draft { partition: Some(partition), ..order(&id, product, 3, TIMESTAMP) };
        system.write(ORDER_CREATED, draft).await?;
    }
    let records = system.since(&mark).await?;
    system.await_quantity(product, 7).await?;
    let updates = about(&records, STOCK_UPDATED, &product.to_string()).len();
    ensure!(updates == 1, "{updates} stock records");
    let rejections = about(&records, REJECTED, &id).len();
    ensure!(rejections == 0, "{rejections} rejections of an order that was deducted");
    Ok(())
}

async fn again(system: &System) -> Result<()> {
    let (product, deducted, rejected) = (system.product(3).await?, new_id(), new_id());
    let orders = [(DEDUCTED, &deducted, 3), (REJECTED, &rejected, 1)];
    let mut first = Vec::new();
    for (topic, id, qty) in orders {
        let mark = system.mark().await?;
        system.write(ORDER_CREATED, order(id, product, qty, TIMESTAMP)).await?;
        first.push(replied(system, &mark, topic, id).await?);
    }
    system.send(Request::new("PATCH", format!("/stocks/{product}?qty=10"))).await?.expect(200)?;
    for ((topic, id, qty), first) in orders.into_iter().zip(&first) {
        let mark = system.mark().await?;
        system.write(ORDER_CREATED, order(id, product, qty, TIMESTAMP)).await?;
        let records = replied(system, &mark, topic, id).await?;
        let (first, repeated) = (about(first, topic, id), about(&records, topic, id));
        ensure!(repeated.len() == 1 && repeated[0].text() == first[0].text(), "{first:?}, then {repeated:?}");
        let changed = about(&records, STOCK_UPDATED, &product.to_string()).len();
        ensure!(changed == 0, "{changed} stock records of a repeated order");
    }
    system.await_quantity(product, 10).await
}

async fn rejected(system: &System, product: i64, qty: i64) -> Result<()> {
    let (id, mark) = (new_id(), system.mark().await?);
    system.write(ORDER_CREATED, order(&id, product, qty, TIMESTAMP)).await?;
    let records = replied(system, &mark, REJECTED, &id).await?;
    let replies = about(&records, REJECTED, &id);
    ensure!(replies.len() == 1, "{} rejections", replies.len());
    let value: Value = serde_json::from_str(replies[0].text())?;
    ensure!(value["orderId"] == id, "{value}");
    ensure!(value["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "no reason: {value}");
    let changed =
        about(&records, STOCK_UPDATED, &product.to_string()).len() + about(&records, DEDUCTED, &id).len();
    ensure!(changed == 0, "{changed} records too many");
    Ok(())
}

/// The records since `mark`, with inventory's reply.
async fn replied(system: &System, mark: &Mark, topic: &str, order: &str) -> Result<Vec<Record>> {
    eventually(async || {
        let records = system.since(mark).await?;
        ensure!(!about(&records, topic, order).is_empty(), "no reply to {order} in {topic}");
        Ok(records)
    })
    .await
}

async fn bad_quantity(system: &System, qty: i64) -> Result<()> {
    let product = system.product(10).await?;
    rejected(system, product, qty).await?;
    system.await_quantity(product, 10).await
}

async fn unknown_product(system: &System) -> Result<()> {
    rejected(system, 2_147_483_644, 1).await
}

async fn traced(system: &System) -> Result<()> {
    let (product, id, mark) = (system.product(10).await?, new_id(), system.mark().await?);
    let trace = id.replace('-', "");
    let headers = vec![("traceparent".to_owned(), format!("00-{trace}-00f067aa0ba902b7-01"))];
    system.write(ORDER_CREATED, Draft { headers, ..order(&id, product, 3, TIMESTAMP) }).await?;
    let records = replied(system, &mark, DEDUCTED, &id).await?;
    let traces: Vec<_> =
        about(&records, DEDUCTED, &id).iter().map(|record| record.header("traceparent")).collect();
    ensure!(traces.len() == 1 && traces[0].is_some_and(|parent| parent.contains(&trace)), "{traces:?}");
    Ok(())
}

async fn keyed(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    let headers = vec![
        ("__TypeId__".to_owned(), "com.example.OrderCreatedEvent".to_owned()),
        ("empty".to_owned(), String::new()),
    ];
    let draft = Draft { key: Some("some key".to_owned()), headers, ..order(&id, product, 3, TIMESTAMP) };
    let mark = system.mark().await?;
    system.write(ORDER_CREATED, draft).await?;
    replied(system, &mark, DEDUCTED, &id).await.map(drop)
}
