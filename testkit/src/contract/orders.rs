//! `POST /orders` and `GET /orders/{orderId}`: the good cases.

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::system::{System, about, eventually, expect_utc, new_id, order_request};
use crate::caller::{Reply, Request};
use crate::report::Report;
use crate::service::ORDER_CREATED;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("orders");
    report.run("201 with Location and the order-created value", created(system)).await;
    report.run("an orderId of the caller's, in upper case, is taken in lower case", own_id(system)).await;
    report.run("the same orderId again creates nothing and answers the same", repeated(system)).await;
    report.run("another body under the same orderId is 409", conflict(system)).await;
    report.run("twenty callers at once with one orderId make one order", at_once(system)).await;
    report.run("members in any order, white space and a charset are accepted", forms(system)).await;
    report.run("2147483647 is a product and a quantity", largest(system)).await;
    report.run("stock that is just enough confirms, one less cancels", just_enough(system)).await;
    report.run("a product that does not exist cancels", unknown_product(system)).await;
    report.run("GET finds an order by its id in upper case, 404 what is unknown", found(system)).await;
}

fn id_of(reply: &Reply) -> Result<String> {
    Ok(reply.member("orderId")?.as_str().unwrap_or_default().to_owned())
}

async fn created(system: &System) -> Result<()> {
    let product = system.product(10).await?;
    let reply = system.send(order_request(product, 2)).await?.expect(201)?;
    let (id, timestamp) = (id_of(&reply)?, reply.member("timestamp")?);
    ensure!(
        uuid::Uuid::parse_str(&id).is_ok_and(|parsed| parsed.hyphenated().to_string() == id),
        "orderId {id}"
    );
    expect_utc(&timestamp)?;
    let expected =
        format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":2,"timestamp":{timestamp}}}"#);
    ensure!(reply.text() == expected, "{} instead of {expected}", reply.text());
    ensure!(
        timestamp.as_str().is_some_and(|text| text.len() == "2026-11-22T19:28:00.123Z".len()),
        "not in milliseconds: {timestamp}"
    );
    let location = reply.header("location").unwrap_or_default();
    ensure!(location == format!("/orders/{id}"), "Location {location:?}");
    let kind = reply.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("application/json"), "content type {kind:?}");
    Ok(())
}

async fn own_id(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    let body = format!(r#"{{"orderId":"{}","productId":{product},"orderQty":1}}"#, id.to_uppercase());
    let reply = system.send(Request::post("/orders", body)).await?.expect(201)?;
    ensure!(id_of(&reply)? == id, "{}", reply.short());
    ensure!(
        reply.header("location") == Some(&format!("/orders/{id}")),
        "Location {:?}",
        reply.header("location")
    );
    Ok(())
}

fn with_id(id: &str, product: i64, qty: i64) -> Request {
    Request::post("/orders", format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":{qty}}}"#))
}

async fn repeated(system: &System) -> Result<()> {
    let (product, id, mark) = (system.product(10).await?, new_id(), system.mark().await?);
    let first = system.send(with_id(&id, product, 1)).await?.expect(201)?;
    system.quiet().await?;
    let rows = system.databases.written_rows("cmd-order").await?;
    for form in [id.clone(), id.to_uppercase()] {
        let again = system.send(with_id(&form, product, 1)).await?.expect(201)?;
        ensure!(again.body == first.body, "{} instead of {}", again.short(), first.short());
        ensure!(
            again.header("location") == first.header("location"),
            "Location {:?}",
            again.header("location")
        );
    }
    ensure!(system.databases.written_rows("cmd-order").await? == rows, "a row was written");
    let records = system.since(&mark).await?;
    let created = about(&records, ORDER_CREATED, &id).len();
    ensure!(created == 1, "{created} order-created records");
    Ok(())
}

async fn conflict(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    system.send(with_id(&id, product, 1)).await?.expect(201)?;
    system.quiet().await?;
    let rows = system.databases.written_rows("cmd-order").await?;
    system.send(with_id(&id, product, 2)).await?.expect_problem(&[409], "")?;
    system.send(with_id(&id, product + 1, 1)).await?.expect_problem(&[409], "")?;
    ensure!(system.databases.written_rows("cmd-order").await? == rows, "a row was written");
    Ok(())
}

async fn at_once(system: &System) -> Result<()> {
    let (product, id, mark) = (system.product(10).await?, new_id(), system.mark().await?);
    let mut running = JoinSet::new();
    for _ in 0..20 {
        let (request, address) = (with_id(&id, product, 1), system.target.http()?.to_owned());
        running.spawn(async move { request.send(&address).await });
    }
    let mut bodies = Vec::new();
    while let Some(reply) = running.join_next().await {
        bodies.push(reply??.expect(201)?.text());
    }
    bodies.dedup();
    ensure!(bodies.len() == 1, "different answers: {bodies:?}");
    let records = system.since(&mark).await?;
    let created = about(&records, ORDER_CREATED, &id).len();
    ensure!(created == 1, "{created} order-created records");
    system.await_quantity(product, 9).await
}

async fn forms(system: &System) -> Result<()> {
    let product = system.product(10).await?;
    let body = format!(" {{\n\t\"orderQty\" : 1 ,\r\n \"productId\":{product} }}\n");
    for kind in ["application/json; charset=utf-8", "Application/JSON"] {
        system
            .send(Request::post("/orders", body.clone()).instead("Content-Type", kind))
            .await?
            .expect(201)?;
    }
    Ok(())
}

async fn largest(system: &System) -> Result<()> {
    let product = system.product(2_147_483_647).await?;
    let (_, status) = system.ended_order(product, 2_147_483_647).await?;
    ensure!(status == "CONFIRMED", "{status}");
    let (_, status) = system.ended_order(2_147_483_646, 2_147_483_647).await?;
    ensure!(status == "CANCELLED", "{status}");
    Ok(())
}

async fn just_enough(system: &System) -> Result<()> {
    let product = system.product(5).await?;
    for (qty, expected) in [(6, "CANCELLED"), (5, "CONFIRMED"), (1, "CANCELLED")] {
        let (id, status) = system.ended_order(product, qty).await?;
        ensure!(status == expected, "{qty} of what is left of 5: {status}");
        system.await_status(&id, expected).await?;
    }
    system.await_quantity(product, 0).await
}

async fn unknown_product(system: &System) -> Result<()> {
    let (id, status) = system.ended_order(2_147_483_645, 1).await?;
    ensure!(status == "CANCELLED", "{status}");
    system.await_status(&id, "CANCELLED").await
}

async fn found(system: &System) -> Result<()> {
    let product = system.product(5).await?;
    let (id, _) = system.ended_order(product, 2).await?;
    system.await_status(&id, "CONFIRMED").await?;
    let (lower, upper) = eventually(async || {
        Ok((
            system.get(format!("/orders/{id}")).await?,
            system.get(format!("/orders/{}", id.to_uppercase())).await?,
        ))
    })
    .await?;
    ensure!(lower.body == upper.body, "{} and {}", lower.short(), upper.short());
    let time = lower.member("lastUpdatedAt")?;
    expect_utc(&time)?;
    let status = r#""orderStatus":"CONFIRMED""#;
    let expected =
        format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":2,{status},"lastUpdatedAt":{time}}}"#);
    ensure!(lower.text() == expected, "{} instead of {expected}", lower.text());
    system.send(Request::get(format!("/orders/{}", new_id()))).await?.expect_problem(&[404], "")?;
    system.send(Request::get("/orders/not-an-id")).await?.expect_problem(&[400, 404], "")?;
    Ok(())
}
