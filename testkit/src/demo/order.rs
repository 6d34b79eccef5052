//! One order, from its POST to its notification. Checks every effect that the contract promises.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Demo, eventually, show};
use crate::caller::Request;

const STOCK: &str = "SELECT current_qty::bigint FROM public.stock WHERE product_id = $1";

/// The expected end of an order.
pub(super) struct Expected {
    status: &'static str,
    ending: &'static str,
    notification: &'static str,
    /// The stock that is left; `None` when the product does not exist.
    left: Option<i64>,
}

impl Expected {
    pub(super) fn confirmed(left: i64) -> Self {
        Self { status: "CONFIRMED", ending: "completed", notification: "OrderConfirmed", left: Some(left) }
    }

    pub(super) fn cancelled(left: Option<i64>) -> Self {
        Self { status: "CANCELLED", ending: "compensated", notification: "OrderCancelled", left }
    }
}

impl Demo {
    /// Places an order and follows it to its end; returns its saga.
    pub(super) async fn order(
        &self,
        what: &str,
        product: i64,
        qty: i64,
        expected: &Expected,
    ) -> Result<Value> {
        show::step(&format!("{what}: {qty} of product {product}"));
        self.followed(product, qty, expected)
            .await
            .with_context(|| format!("{what} ({qty} of product {product})"))
    }

    async fn followed(&self, product: i64, qty: i64, expected: &Expected) -> Result<Value> {
        let began = Instant::now();
        let request = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":{qty}}}"#));
        let reply = request.header("Prefer", "wait=25").send(self.target.http()?).await?.expect(201)?;
        let took = began.elapsed();
        let (id, status) = (text(&reply.member("orderId")?), text(&reply.member("orderStatus")?));
        ensure!(status == expected.status, "it is {status} instead of {}", expected.status);
        show::done(&format!("{status} after {} ms, order {id}", took.as_millis()));
        let saga = self.saga(&id, expected).await?;
        show::timeline(&saga);
        if expected.status == "CANCELLED" {
            show::done(&format!("reason: {}", self.reason(&id).await?));
        }
        self.notified(&id, expected).await?;
        self.shown_as(&id, expected.status).await?;
        if let Some(left) = expected.left {
            self.stock_is(product, left).await?;
            show::done(&format!("{left} in stock on both sides"));
        }
        Ok(saga)
    }

    async fn saga(&self, id: &str, expected: &Expected) -> Result<Value> {
        let reply =
            Request::get(format!("/v1/sagas/order/{id}")).send(self.target.admin()?).await?.expect(200)?;
        let saga = reply.json()?;
        ensure!(
            saga["ending"] == expected.ending,
            "its saga ended {} instead of {}",
            saga["ending"],
            expected.ending
        );
        ensure!(
            saga["timeline"].as_array().is_some_and(|steps| steps.len() >= 2),
            "no timeline: {}",
            reply.short()
        );
        Ok(saga)
    }

    async fn reason(&self, id: &str) -> Result<String> {
        let reply =
            Request::get(format!("/orders/{id}/events")).send(self.target.http()?).await?.expect(200)?;
        let events = reply.array()?;
        let reason = events.iter().find_map(|event| event.get("reason")?.as_str());
        reason.map(str::to_owned).with_context(|| format!("no reason: {}", reply.short()))
    }

    async fn notified(&self, id: &str, expected: &Expected) -> Result<()> {
        let message = format!("{}:{id}", expected.notification);
        eventually(async || {
            let path = format!("/notifications?orderId={id}");
            let reply = Request::get(path).send(self.target.http()?).await?.expect(200)?;
            let messages: Vec<String> = reply.array()?.iter().map(|one| text(&one["message"])).collect();
            ensure!(messages == [message.clone()], "notifications {messages:?} instead of {message}");
            Ok(())
        })
        .await?;
        show::done(&format!("notified: {message}"));
        Ok(())
    }

    async fn shown_as(&self, id: &str, status: &str) -> Result<()> {
        eventually(async || {
            let reply = Request::get(format!("/orders/{id}")).send(self.target.http()?).await?.expect(200)?;
            let shown = reply.member("orderStatus")?;
            ensure!(shown == status, "the query side shows {shown} instead of {status}");
            Ok(())
        })
        .await?;
        show::done(&format!("the query side shows {status}"));
        Ok(())
    }

    /// Asserts that command side and query side have this quantity of a product.
    pub(super) async fn stock_is(&self, product: i64, quantity: i64) -> Result<()> {
        let pool = self.databases.of("cmd-inventory")?;
        let had: i64 =
            sqlx::query_scalar(STOCK).bind(product).fetch_one(pool).await.context("the command side")?;
        ensure!(had == quantity, "the command side has {had} in stock instead of {quantity}");
        eventually(async || {
            let reply =
                Request::get(format!("/stocks/{product}")).send(self.target.http()?).await?.expect(200)?;
            let shown = reply.member("currentQty")?;
            ensure!(shown == quantity, "the query side shows {shown} in stock instead of {quantity}");
            Ok(())
        })
        .await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
