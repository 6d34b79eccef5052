//! `Idempotency-Key`: the same request twice is one.

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::system::{System, new_id, order_request};
use crate::caller::Request;
use crate::report::Report;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("idempotency");
    report.run("POST /orders with the same key answers the same and writes nothing", orders(system)).await;
    report.run("POST /stocks with the same key answers the same and writes nothing", stocks(system)).await;
    report.run("a key of characters that SQL quotes is a key like others", quoted(system)).await;
    report.run("another body under the same key is 409", conflict(system)).await;
    report.run("the key of one service is free in the other", apart(system)).await;
    report.run("twenty callers at once with one key make one order", at_once(system)).await;
    report
        .run("a request that was refused may be sent again, corrected, with its key", after_refusal(system))
        .await;
}

async fn same_twice(system: &System, database: &str, request: Request, key: String) -> Result<()> {
    let request = request.header("Idempotency-Key", key);
    let first = system.send(request.clone()).await?.expect(201)?;
    system.quiet().await?;
    let rows = system.databases.written_rows(database).await?;
    let again = system.send(request).await?.expect(201)?;
    ensure!(again.body == first.body, "{} instead of {}", again.short(), first.short());
    ensure!(again.header("location") == first.header("location"), "Location {:?}", again.header("location"));
    ensure!(system.databases.written_rows(database).await? == rows, "a row was written");
    Ok(())
}

async fn orders(system: &System) -> Result<()> {
    let product = system.product(10).await?;
    same_twice(system, "cmd-order", order_request(product, 1), new_id()).await
}

async fn stocks(system: &System) -> Result<()> {
    same_twice(system, "cmd-inventory", Request::post("/stocks", r#"{"qty":3}"#), new_id()).await
}

async fn quoted(system: &System) -> Result<()> {
    let key = format!(r#"{{NULL,'a"b\c',}}{}"#, new_id());
    same_twice(system, "cmd-inventory", Request::post("/stocks", r#"{"qty":4}"#), key).await
}

async fn conflict(system: &System) -> Result<()> {
    let (product, key) = (system.product(10).await?, new_id());
    system.send(order_request(product, 1).header("Idempotency-Key", &key)).await?.expect(201)?;
    system
        .send(order_request(product, 2).header("Idempotency-Key", &key))
        .await?
        .expect_problem(&[409], "")?;
    let stock =
        |qty: i64| Request::post("/stocks", format!(r#"{{"qty":{qty}}}"#)).header("Idempotency-Key", &key);
    system.send(stock(1)).await?.expect(201)?;
    system.send(stock(2)).await?.expect_problem(&[409], "")?;
    Ok(())
}

async fn apart(system: &System) -> Result<()> {
    let (product, key) = (system.product(10).await?, new_id());
    let order = system.send(order_request(product, 1).header("Idempotency-Key", &key)).await?.expect(201)?;
    let stock = system
        .send(Request::post("/stocks", r#"{"qty":3}"#).header("Idempotency-Key", &key))
        .await?
        .expect(201)?;
    ensure!(order.header("location") != stock.header("location"), "one answer for both: {}", stock.short());
    Ok(())
}

async fn at_once(system: &System) -> Result<()> {
    let product = system.product(10).await?;
    let request = order_request(product, 1).header("Idempotency-Key", new_id());
    let mut running = JoinSet::new();
    for _ in 0..20 {
        let (request, address) = (request.clone(), system.target.http()?.to_owned());
        running.spawn(async move { request.send(&address).await });
    }
    let mut bodies = Vec::new();
    while let Some(reply) = running.join_next().await {
        bodies.push(reply??.expect(201)?.text());
    }
    bodies.dedup();
    ensure!(bodies.len() == 1, "different answers: {bodies:?}");
    system.quiet().await?;
    system.await_quantity(product, 9).await
}

async fn after_refusal(system: &System) -> Result<()> {
    let (product, key) = (system.product(10).await?, new_id());
    system
        .send(order_request(product, 0).header("Idempotency-Key", &key))
        .await?
        .expect_problem(&[400, 422], "orderQty")?;
    let reply = system.send(order_request(product, 1).header("Idempotency-Key", &key)).await?;
    ensure!(reply.status == 201, "{}: {}", reply.status, reply.short());
    Ok(())
}
