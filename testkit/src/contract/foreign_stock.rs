//! Stock records of other services: in any order, where the later Kafka timestamp wins.

use anyhow::{Result, ensure};
use time::OffsetDateTime;

use super::system::{System, eventually, foreign_product};
use crate::caller::Request;
use crate::report::Report;
use crate::service::{STOCK_CREATED, STOCK_UPDATED};
use crate::topic::writer::Draft;

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("stock records of other services");
    report.run("an update before its creation is shown", update_first(system)).await;
    report.run("of two values the one with the later Kafka timestamp wins", later_wins(system)).await;
    report.run("a quantity of 0 is shown", zero(system)).await;
    report.run("the owner of the stock does not consume them", not_owned(system)).await;
}

fn stock(product: i64, quantity: i64, minutes_ago: i64) -> Draft {
    let now = OffsetDateTime::now_utc().unix_timestamp() * 1000;
    let value = format!(r#"{{"warehouse":"north","currentQty":{quantity},"productId":{product}}}"#);
    Draft { timestamp_ms: Some(now - minutes_ago * 60_000), ..Draft::text(value) }
}

async fn shown(system: &System, product: i64, quantity: i64) -> Result<()> {
    eventually(async || {
        let reply = system.get(format!("/stocks/{product}")).await?;
        let expected = format!(r#"{{"productId":{product},"currentQty":{quantity}}}"#);
        ensure!(reply.text() == expected, "{} instead of {expected}", reply.text());
        Ok(())
    })
    .await
}

async fn update_first(system: &System) -> Result<()> {
    let product = foreign_product();
    system.write(STOCK_UPDATED, stock(product, 8, 0)).await?;
    shown(system, product, 8).await?;
    system.write(STOCK_CREATED, stock(product, 10, 5)).await?;
    system.quiet().await?;
    shown(system, product, 8).await
}

async fn later_wins(system: &System) -> Result<()> {
    let product = foreign_product();
    for (quantity, minutes_ago, expected) in [(10, 30, 10), (9, 60, 10), (7, 20, 7), (8, 25, 7), (5, 0, 5)] {
        let draft = Draft { partition: Some((quantity % 3) as i32), ..stock(product, quantity, minutes_ago) };
        system.write(STOCK_UPDATED, draft).await?;
        system.quiet().await?;
        shown(system, product, expected).await?;
    }
    Ok(())
}

async fn zero(system: &System) -> Result<()> {
    let product = foreign_product();
    system.write(STOCK_UPDATED, stock(product, 0, 0)).await?;
    shown(system, product, 0).await
}

async fn not_owned(system: &System) -> Result<()> {
    let product = foreign_product();
    system.write(STOCK_CREATED, stock(product, 4, 0)).await?;
    shown(system, product, 4).await?;
    system
        .send(Request::new("PATCH", format!("/stocks/{product}?qty=5")))
        .await?
        .expect_problem(&[404], "")?;
    Ok(())
}
