//! `POST /stocks` and `PATCH /stocks/{productId}`: the good cases, and products that exist already.

use anyhow::{Result, ensure};

use super::system::{System, eventually};
use crate::caller::{Reply, Request};
use crate::report::Report;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("stocks");
    report.run("201 with Location and the stock-created value", created(system)).await;
    report.run("a productId of the caller's is taken; 409 when it exists", own_id(system)).await;
    report.run("the next product without a number gets a free one", next_free(system)).await;
    report.run("PATCH sets the quantity and answers the stock-updated value", set(system)).await;
    report.run("the query side shows creation, setting and deduction", shown(system)).await;
    report.run("after product 2147483647 there is still a next one", largest_id(system)).await;
}

fn number(reply: &Reply, name: &str) -> Result<i64> {
    Ok(reply.member(name)?.as_i64().unwrap_or_default())
}

fn expect_stock(reply: &Reply, product: i64, quantity: i64) -> Result<()> {
    let expected = format!(r#"{{"productId":{product},"currentQty":{quantity}}}"#);
    ensure!(reply.text() == expected, "{} instead of {expected}", reply.text());
    let kind = reply.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("application/json"), "content type {kind:?}");
    Ok(())
}

async fn created(system: &System) -> Result<()> {
    let reply = system.send(Request::post("/stocks", r#"{"qty":100}"#)).await?.expect(201)?;
    let product = number(&reply, "productId")?;
    expect_stock(&reply, product, 100)?;
    let location = reply.header("location").unwrap_or_default();
    ensure!(location == format!("/stocks/{product}"), "Location {location:?}");
    Ok(())
}

fn explicit(product: i64, qty: i64) -> Request {
    Request::post("/stocks", format!(r#"{{"qty":{qty},"productId":{product}}}"#))
}

async fn own_id(system: &System) -> Result<()> {
    let taken = system.product(1).await?;
    system.send(explicit(taken, 5)).await?.expect_problem(&[409], "")?;
    let product = taken + 1000;
    let reply = system.send(explicit(product, 5)).await?.expect(201)?;
    expect_stock(&reply, product, 5)?;
    ensure!(
        reply.header("location") == Some(&format!("/stocks/{product}")),
        "Location {:?}",
        reply.header("location")
    );
    system.send(explicit(product, 5)).await?.expect_problem(&[409], "")?;
    system.await_quantity(product, 5).await
}

async fn next_free(system: &System) -> Result<()> {
    let last = system.product(1).await?;
    for product in [last + 1, last + 3] {
        system.send(explicit(product, 1)).await?.expect(201)?;
    }
    let mut seen = vec![last, last + 1, last + 3];
    for _ in 0..3 {
        let next = system.product(1).await?;
        ensure!(!seen.contains(&next), "product {next} twice");
        seen.push(next);
    }
    Ok(())
}

async fn set(system: &System) -> Result<()> {
    let product = system.product(100).await?;
    for quantity in [42, 42, 1, 2_147_483_647] {
        let reply = system
            .send(Request::new("PATCH", format!("/stocks/{product}?qty={quantity}")))
            .await?
            .expect(200)?;
        expect_stock(&reply, product, quantity)?;
    }
    system.await_quantity(product, 2_147_483_647).await
}

async fn shown(system: &System) -> Result<()> {
    let product = system.product(7).await?;
    system.await_quantity(product, 7).await?;
    system.ended_order(product, 3).await?;
    system.await_quantity(product, 4).await?;
    system.send(Request::new("PATCH", format!("/stocks/{product}?qty=9"))).await?.expect(200)?;
    system.await_quantity(product, 9).await?;
    expect_stock(&system.get(format!("/stocks/{product}")).await?, product, 9)
}

async fn largest_id(system: &System) -> Result<()> {
    let reply = system.send(explicit(i64::from(i32::MAX), 1)).await?;
    ensure!([201, 409].contains(&reply.status), "{}: {}", reply.status, reply.short());
    let product = system.product(1).await?;
    eventually(async || {
        let reply = system.get(format!("/stocks/{product}")).await?;
        expect_stock(&reply, product, 1)
    })
    .await
}
