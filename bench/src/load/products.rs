//! The products that the load orders: many with plenty of stock, some without any.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::sample::Sample;
use saga_testkit::caller::{Reply, Request};

const PLENTY: i64 = 1_000_000_000;
const AT_ONCE: usize = 32;

/// The numbers of the products.
#[derive(Debug)]
pub(super) struct Products {
    stocked: Arc<[i64]>,
    empty: Arc<[i64]>,
}

/// The endless sequence of orders of one client.
#[derive(Debug)]
pub(super) struct Orders {
    stocked: Arc<[i64]>,
    empty: Arc<[i64]>,
    empty_percent: usize,
    sample: Sample,
}

impl Products {
    /// Creates the products over HTTP. A quantity is at least 1, so a product without stock is one whose only
    /// piece was ordered.
    pub(super) async fn create(address: &str, stocked: usize, empty: usize) -> Result<Self> {
        ensure!(stocked > 0, "at least one product must have stock");
        let stocked = create_many(address, stocked, PLENTY).await?;
        let empty = create_many(address, empty, 1).await?;
        for product in &empty {
            let order = Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":1}}"#))
                .header("Prefer", "wait=30");
            let reply = order.send(address).await?.expect(201)?;
            ensure!(
                reply.member("orderStatus")? == "CONFIRMED",
                "product {product} was not emptied: {}",
                reply.short()
            );
        }
        Ok(Self { stocked: stocked.into(), empty: empty.into() })
    }

    /// How many orders were placed to create the products.
    pub(super) fn ordered(&self) -> u64 {
        self.empty.len() as u64
    }

    /// The orders of client number `seed`.
    pub(super) fn orders(&self, seed: u64, empty_percent: usize) -> Orders {
        let empty_percent = if self.empty.is_empty() { 0 } else { empty_percent };
        Orders {
            stocked: Arc::clone(&self.stocked),
            empty: Arc::clone(&self.empty),
            empty_percent,
            sample: Sample::new(seed),
        }
    }
}

impl Orders {
    /// The product of the next order, and whether it has stock.
    pub(super) fn next(&mut self) -> (i64, bool) {
        let stocked = self.sample.below(100) >= self.empty_percent;
        let products = if stocked { &self.stocked } else { &self.empty };
        (products.get(self.sample.below(products.len())).copied().unwrap_or(1), stocked)
    }
}

async fn create_many(address: &str, count: usize, qty: i64) -> Result<Vec<i64>> {
    let mut running = JoinSet::new();
    let mut ids = Vec::with_capacity(count);
    for started in 0..count {
        if started >= AT_ONCE {
            ids.extend(joined(running.join_next().await)?);
        }
        let address = address.to_owned();
        running.spawn(
            async move { Request::post("/stocks", format!(r#"{{"qty":{qty}}}"#)).send(&address).await },
        );
    }
    while let Some(reply) = running.join_next().await {
        ids.extend(joined(Some(reply))?);
    }
    Ok(ids)
}

fn joined(reply: Option<Result<Result<Reply>, tokio::task::JoinError>>) -> Result<Option<i64>> {
    let Some(reply) = reply else { return Ok(None) };
    let id = reply??.expect(201).context("create a product")?.member("productId")?;
    Ok(Some(Value::as_i64(&id).context("a productId that is no number")?))
}

#[cfg(test)]
mod tests {
    use super::Products;

    #[test]
    fn one_order_in_ten_asks_for_a_product_without_stock() {
        let products = Products { stocked: [1, 2, 3].into(), empty: [9].into() };
        let mut orders = products.orders(5, 10);
        let empty = (0..10_000).filter(|_| orders.next() == (9, false)).count();
        assert!((900..1100).contains(&empty), "{empty}");
        let none = Products { stocked: [1].into(), empty: [].into() };
        assert!((0..100).all(|_| none.orders(1, 10).next() == (1, true)));
    }
}
