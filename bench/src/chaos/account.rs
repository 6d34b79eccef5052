//! What only the clients know: which orders were accepted, and how much stock there was at the start.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::orders::{Placed, request};
use saga_testkit::verify::Rows;

/// About this many of the accepted orders are placed once more.
const REPEATED: usize = 50;

/// Compares what the clients know with the databases.
pub(super) fn all(placed: &[Placed], rows: &Rows, products: &[i64], stock: i64) -> Vec<(String, Result<()>)> {
    vec![
        (
            format!("each of {} orders with a 201 exists, with its product and quantity", placed.len()),
            exist(placed, rows),
        ),
        (format!("as many orders as 201 answers: {}", placed.len()), as_many(placed, rows)),
        ("an order ended as the answer to its request says".to_owned(), answered(placed, rows)),
        stock_lost(rows, products, stock),
        some_of_both(rows),
    ]
}

fn exist(placed: &[Placed], rows: &Rows) -> Result<()> {
    for order in placed {
        let row = rows.orders.get(&order.id);
        let same = row.is_some_and(|row| row.product == order.product && row.qty == order.qty);
        ensure!(same, "{} of {} x product {}: {row:?}", order.id, order.qty, order.product);
    }
    Ok(())
}

fn as_many(placed: &[Placed], rows: &Rows) -> Result<()> {
    ensure!(rows.orders.len() == placed.len(), "{} orders", rows.orders.len());
    Ok(())
}

fn answered(placed: &[Placed], rows: &Rows) -> Result<()> {
    for order in placed {
        let answer: Value = serde_json::from_str(&order.body)?;
        let status = rows.orders.get(&order.id).map(|row| row.status.as_str());
        if let Some(answered) = answer.get("orderStatus").and_then(Value::as_str) {
            ensure!(status == Some(answered), "{}: answered {answered}, but it is {status:?}", order.id);
        }
    }
    Ok(())
}

fn stock_lost(rows: &Rows, products: &[i64], stock: i64) -> (String, Result<()>) {
    let mut confirmed: HashMap<i64, i64> = HashMap::new();
    for order in rows.orders.values().filter(|order| order.status == "CONFIRMED") {
        *confirmed.entry(order.product).or_default() += order.qty;
    }
    let lost = |product: &i64| stock - rows.stocks.get(product).copied().unwrap_or_default();
    let total: i64 = products.iter().map(lost).sum();
    let wrong: Vec<String> = products
        .iter()
        .filter(|product| lost(product) != confirmed.get(product).copied().unwrap_or_default())
        .map(|product| {
            format!("product {product} lost {}, confirmed {:?}", lost(product), confirmed.get(product))
        })
        .collect();
    let outcome = if wrong.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(wrong.join("; "))) };
    (
        format!(
            "the stock lost {total}, which is the confirmed quantity of each of {} products",
            products.len()
        ),
        outcome,
    )
}

fn some_of_both(rows: &Rows) -> (String, Result<()>) {
    let cancelled = rows.orders.values().filter(|order| order.status == "CANCELLED").count();
    let outcome = if cancelled > 0 && cancelled < rows.orders.len() {
        Ok(())
    } else {
        Err(anyhow::anyhow!("choose another --stock"))
    };
    (format!("some orders were confirmed and some cancelled ({cancelled})"), outcome)
}

/// Places some of the orders once more.
pub(super) async fn repeat(address: &str, placed: &[Placed]) -> Result<()> {
    let step = (placed.len() / REPEATED).max(1);
    for order in placed.iter().step_by(step) {
        let plain = Placed { waited: false, ..order.clone() };
        let reply = request(&plain).send(address).await?.expect(201)?;
        let (mut first, again): (Value, Value) = (serde_json::from_str(&order.body)?, reply.json()?);
        if let Some(object) = first.as_object_mut() {
            object.remove("orderStatus");
        }
        ensure!(first == again, "{first} at first, {again} the second time");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Placed, all};
    use saga_testkit::verify::{Order, Rows};

    fn placed(status: &str) -> Vec<Placed> {
        let body = format!(r#"{{"orderStatus":"{status}"}}"#);
        vec![
            Placed { id: Uuid::from_u128(1), product: 7, qty: 3, waited: true, body },
            Placed { id: Uuid::from_u128(2), product: 7, qty: 3, waited: false, body: "{}".to_owned() },
        ]
    }

    fn rows() -> Rows {
        let order = |status: &str| Order { product: 7, qty: 3, status: status.to_owned() };
        Rows {
            orders: [(Uuid::from_u128(1), order("CONFIRMED")), (Uuid::from_u128(2), order("CANCELLED"))]
                .into(),
            stocks: [(7, 2)].into(),
            ..Rows::default()
        }
    }

    fn broken(placed: &[Placed], rows: &Rows, stock: i64) -> usize {
        all(placed, rows, &[7], stock).iter().filter(|(_, outcome)| outcome.is_err()).count()
    }

    #[test]
    fn a_difference_to_what_the_clients_know_fails() {
        assert_eq!(broken(&placed("CONFIRMED"), &rows(), 5), 0);
        assert_eq!(broken(&placed("CANCELLED"), &rows(), 5), 1, "answered another end");
        assert_eq!(broken(&placed("CONFIRMED"), &rows(), 6), 1, "stock lost more");
        assert_eq!(broken(&placed("CONFIRMED")[..1], &rows(), 5), 1, "an order that no client placed");
        let mut lost = rows();
        lost.orders.remove(&Uuid::from_u128(2));
        assert_eq!(broken(&placed("CONFIRMED"), &lost, 5), 3, "an order lost");
    }
}
