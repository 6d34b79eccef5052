//! order-created: deducts the quantity or rejects with a reason. Decides on each order once, however often
//! its record arrives.
//!
//! A repeat under another message id, as after a restore of the orders' database, gets the same reply again
//! and deducts nothing. What is stored is not the reply, but what the decision is made from: the statement
//! that claims the orders of a batch can store it, since it is known before the decision.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use saga_plugin::{Claims, Db, DbResult, Effects, Event, Fold, Outcome, Table, Uuid, many, many_or_null};
use serde::{Deserialize, Serialize};

use crate::{
    DEDUCTED, REJECTED,
    stock::{self, Stock, StockValue},
};

/// The value of order-created, as any service may write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderCreated {
    order_id: Uuid,
    product_id: i32,
    order_qty: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deducted {
    order_id: Uuid,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rejected<'a> {
    order_id: Uuid,
    reason: &'a str,
}

/// What a decision is made from: the order as it came first, and how much of its product was left; `None`
/// where there was no such product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    product_id: i32,
    order_qty: i32,
    available: Option<i32>,
}

impl Decision {
    /// The quantity that is left after the deduction, or the reason to reject it.
    fn outcome(&self) -> Result<i32, String> {
        let Self { product_id, order_qty, available } = *self;
        match available {
            _ if order_qty < 1 => Err(format!("a quantity of {order_qty} cannot be deducted")),
            None => Err(format!("product {product_id} does not exist")),
            Some(available) if available < order_qty => {
                Err(format!("product {product_id} has {available} left, {order_qty} were ordered"))
            }
            Some(available) => Ok(available - order_qty),
        }
    }
}

/// The orders that this unit has claimed, and the decisions by order: theirs and earlier ones.
type Decisions = (Claims<Uuid>, Table<Uuid, Decision>);

/// A decision: whether its order is claimed, the order, its product and quantity, what was available. Or a
/// stock, which has no order: the product and its quantity.
type Row = (bool, Option<Uuid>, i32, Option<i32>, Option<i32>);

pub(crate) struct Deduct;

impl Fold for Deduct {
    type Input = Event<OrderCreated>;
    type Rows = (Decisions, Stock);

    /// Locks the stock and claims the orders in one statement. It waits for another unit that decides on one
    /// of the orders at the same time. That unit's decision is not loaded: its reply comes after this record.
    fn load(db: &Db<'_>, orders: &[Event<OrderCreated>]) -> DbResult<Self::Rows> {
        let mut first: BTreeMap<Uuid, &OrderCreated> = BTreeMap::new();
        for Event(order) in orders {
            first.entry(order.order_id).or_insert(order);
        }
        let found = db.query(
            "WITH locked AS (
                 SELECT product_id, current_qty FROM public.stock
                  WHERE product_id = ANY ($2::int[]) ORDER BY product_id FOR UPDATE),
             claimed AS (
                 INSERT INTO public.deduction_decision (order_id, product_id, order_qty, available)
                 SELECT v.order_id, v.product_id, v.order_qty, l.current_qty
                   FROM unnest($1::uuid[], $2::int[], $3::int[]) v (order_id, product_id, order_qty)
                   LEFT JOIN locked l ON l.product_id = v.product_id
                  ORDER BY v.order_id
                 ON CONFLICT DO NOTHING RETURNING order_id, product_id, order_qty, available)
             SELECT true, order_id, product_id, order_qty, available FROM claimed
             UNION ALL SELECT false, order_id, product_id, order_qty, available
               FROM public.deduction_decision WHERE order_id = ANY ($1::uuid[]) AND order_qty IS NOT NULL
             UNION ALL SELECT false, NULL, product_id, NULL, current_qty FROM locked",
            &[
                many(first.keys().copied()),
                many(first.values().map(|order| order.product_id)),
                many(first.values().map(|order| order.order_qty)),
            ],
        )?;
        let rows: Vec<Row> = found.rows()?;
        let claims = rows.iter().filter_map(|(claimed, order, ..)| order.filter(|_| *claimed)).collect();
        let decisions = rows.iter().filter_map(|&(_, order, product_id, order_qty, available)| {
            Some((order?, Decision { product_id, order_qty: order_qty?, available }))
        });
        let stock = rows.iter().filter(|(_, order, ..)| order.is_none());
        let stock = stock.filter_map(|&(_, _, product_id, _, current_qty)| Some((product_id, current_qty?)));
        Ok(((claims, decisions.collect()), stock.collect()))
    }

    fn decide(
        ((claims, decisions), stock): &mut Self::Rows,
        Event(order): &Event<OrderCreated>,
        effects: &mut Effects<'_>,
    ) -> Outcome {
        let order_id = order.order_id;
        let Some(&loaded) = decisions.get(&order_id) else {
            return Outcome::ignored("this order was decided on before");
        };
        if !claims.take(&order_id) {
            if (order.product_id, order.order_qty) != (loaded.product_id, loaded.order_qty) {
                return Outcome::ignored("this order was decided on before with another product or quantity");
            }
            reply(order_id, &loaded.outcome(), effects);
            return Outcome::Done;
        }
        let decision = Decision { available: stock.get(&loaded.product_id).copied(), ..loaded };
        let outcome = decision.outcome();
        reply(order_id, &outcome, effects);
        match outcome {
            // What was loaded has the same outcome: earlier orders of the batch only leave less.
            Ok(current_qty) => {
                stock::update(stock, &StockValue { product_id: decision.product_id, current_qty }, effects);
            }
            Err(_) if decision != loaded => decisions.set(order_id, decision),
            Err(_) => {}
        }
        Outcome::Done
    }

    /// Also corrects the stored decisions that reject what earlier orders of the batch have taken.
    fn store(db: &Db<'_>, ((_, decisions), stock): &Self::Rows) -> DbResult<()> {
        let corrected: Vec<(&Uuid, &Decision)> = decisions.changed().collect();
        if corrected.is_empty() {
            return stock::store(db, stock);
        }
        let (products, quantities): (Vec<i32>, Vec<i32>) = stock.changed().unzip();
        db.execute(
            "WITH corrected AS (
                 UPDATE public.deduction_decision d SET available = v.available
                   FROM unnest($3::uuid[], $4::int[]) v (order_id, available) WHERE d.order_id = v.order_id)
             UPDATE public.stock s SET current_qty = v.current_qty
               FROM unnest($1::int[], $2::int[]) v (product_id, current_qty)
              WHERE s.product_id = v.product_id",
            &[
                many(products),
                many(quantities),
                many(corrected.iter().map(|(order_id, _)| **order_id)),
                many_or_null(corrected.iter().map(|(_, decision)| decision.available)),
            ],
        )?;
        Ok(())
    }
}

fn reply(order_id: Uuid, outcome: &Result<i32, String>, effects: &mut Effects<'_>) {
    match outcome {
        Ok(_) => effects.publish(DEDUCTED, "inventory-deducted", order_id, &Deducted { order_id }),
        Err(reason) => {
            let rejected = Rejected { order_id, reason };
            effects.publish(REJECTED, "inventory-deduction-rejected", order_id, &rejected);
        }
    }
}
