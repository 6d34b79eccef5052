//! `Prefer: wait=N` (RFC 7240): the answer may wait until the saga has ended.

use anyhow::{Result, ensure};

use super::system::{System, new_id, order_request};
use crate::caller::{Reply, Request};
use crate::report::Report;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("waiting");
    report.run("wait=20 answers CONFIRMED", waited(system, "wait=20", 10, "CONFIRMED")).await;
    report.run("wait=20 answers CANCELLED", waited(system, "wait=20", 1, "CANCELLED")).await;
    for prefer in [
        "wait=20, respond-async",
        "respond-async, wait=20",
        "foo=\"a,b\";c, Wait=20",
        "wait=\"20\"",
        "wait = 20",
        "wait=30",
    ] {
        report.run(format!("Prefer: {prefer} is understood"), waited(system, prefer, 10, "CONFIRMED")).await;
    }
    report.run("two Prefer headers are one list", two_headers(system)).await;
    for prefer in ["wait=abc", "wait=-1", "wait", "wait=1.5", "return=minimal", "handling=strict", "", ",;=,"]
    {
        report.run(format!("Prefer: {prefer} is ignored"), ignored(system, prefer)).await;
    }
    for prefer in ["wait=0", "wait=31", "wait=99999999999999999999"] {
        report.run(format!("Prefer: {prefer} is answered by 201"), accepted(system, prefer)).await;
    }
    report
        .run("a repeat that waits has the end of the order, also with Idempotency-Key", repeated(system))
        .await;
    report.run("a repeat that does not wait gets the plain answer", plain_again(system)).await;
    report.run("a bad order that would wait is refused without waiting", refused(system)).await;
}

fn ended(reply: &Reply, status: &str) -> Result<()> {
    let member = |name: &str| reply.member(name);
    let expected = format!(
        r#"{{"orderId":{},"productId":{},"orderQty":{},"timestamp":{},"orderStatus":"{status}"}}"#,
        member("orderId")?,
        member("productId")?,
        member("orderQty")?,
        member("timestamp")?
    );
    ensure!(reply.text() == expected, "{} instead of {expected}", reply.text());
    let applied = reply.header("preference-applied").unwrap_or_default();
    ensure!(applied == "wait" || applied.starts_with("wait="), "Preference-Applied {applied:?}");
    ensure!(reply.header("location").is_some(), "no Location");
    Ok(())
}

fn not_waited(reply: &Reply) -> Result<()> {
    ensure!(!reply.text().contains("orderStatus"), "a status: {}", reply.text());
    ensure!(
        reply.header("preference-applied").is_none(),
        "Preference-Applied {:?}",
        reply.header("preference-applied")
    );
    Ok(())
}

async fn waited(system: &System, prefer: &str, stock: i64, status: &str) -> Result<()> {
    let product = system.product(stock).await?;
    let reply = system.send(order_request(product, 2).header("Prefer", prefer)).await?.expect(201)?;
    ended(&reply, status)
}

async fn two_headers(system: &System) -> Result<()> {
    let product = system.product(10).await?;
    let request =
        order_request(product, 2).header("Prefer", "return=representation").header("Prefer", "wait=20");
    ended(&system.send(request).await?.expect(201)?, "CONFIRMED")
}

async fn ignored(system: &System, prefer: &str) -> Result<()> {
    let product = system.product(10).await?;
    not_waited(&system.send(order_request(product, 2).header("Prefer", prefer)).await?.expect(201)?)
}

async fn accepted(system: &System, prefer: &str) -> Result<()> {
    let product = system.product(10).await?;
    let reply = system.send(order_request(product, 2).header("Prefer", prefer)).await?.expect(201)?;
    if reply.text().contains("orderStatus") { ended(&reply, "CONFIRMED") } else { not_waited(&reply) }
}

async fn repeated(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    let body = format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":2}}"#);
    let request = Request::post("/orders", body).header("Idempotency-Key", new_id());
    not_waited(&system.send(request.clone()).await?.expect(201)?)?;
    let first = system.send(request.clone().header("Prefer", "wait=20")).await?.expect(201)?;
    ended(&first, "CONFIRMED")?;
    let again = system.send(request.header("Prefer", "wait=20")).await?.expect(201)?;
    ensure!(again.body == first.body, "{} instead of {}", again.short(), first.short());
    Ok(())
}

async fn plain_again(system: &System) -> Result<()> {
    let (product, id) = (system.product(10).await?, new_id());
    let body = format!(r#"{{"orderId":"{id}","productId":{product},"orderQty":2}}"#);
    let request = Request::post("/orders", body);
    ended(&system.send(request.clone().header("Prefer", "wait=20")).await?.expect(201)?, "CONFIRMED")?;
    not_waited(&system.send(request).await?.expect(201)?)
}

async fn refused(system: &System) -> Result<()> {
    let reply = system.send(order_request(1, 0).header("Prefer", "wait=30")).await?;
    not_waited(&reply.expect_problem(&[400, 422], "orderQty")?)
}
