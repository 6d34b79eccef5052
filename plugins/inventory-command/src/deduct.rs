//! order-created: deducts the quantity or rejects with a reason. Decides on each order once, however often
//! its record arrives.

use saga_plugin::{Claims, Db, DbResult, Effects, Event, Fold, Outcome, Uuid, keys, many};
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

/// The quantity that is left after the deduction, or the reason to reject it.
fn decide(available: Option<i32>, order: &OrderCreated) -> Result<i32, String> {
    match available {
        _ if order.order_qty < 1 => Err(format!("a quantity of {} cannot be deducted", order.order_qty)),
        None => Err(format!("product {} does not exist", order.product_id)),
        Some(available) if available < order.order_qty => Err(format!(
            "product {} has {available} left, {} were ordered",
            order.product_id, order.order_qty
        )),
        Some(available) => Ok(available - order.order_qty),
    }
}

pub(crate) struct Deduct;

impl Fold for Deduct {
    type Input = Event<OrderCreated>;
    type Rows = (Claims<Uuid>, Stock);

    /// Claims the orders and locks the stock in one statement. It waits for another unit that decides on one
    /// of the orders at the same time.
    fn load(db: &Db<'_>, orders: &[Event<OrderCreated>]) -> DbResult<(Claims<Uuid>, Stock)> {
        let found = db.query(
            "WITH claimed AS (
                 INSERT INTO public.deduction_decision (order_id)
                 SELECT v.order_id FROM unnest($1::uuid[]) v (order_id) ORDER BY v.order_id
                 ON CONFLICT DO NOTHING RETURNING order_id),
             locked AS (
                 SELECT product_id, current_qty FROM public.stock
                  WHERE product_id = ANY ($2::int[]) ORDER BY product_id FOR UPDATE)
             SELECT order_id, NULL::int AS product_id, NULL::int AS current_qty FROM claimed
             UNION ALL SELECT NULL, product_id, current_qty FROM locked",
            &[many(keys(orders, |order| order.0.order_id)), many(keys(orders, |order| order.0.product_id))],
        )?;
        let rows: Vec<(Option<Uuid>, Option<i32>, Option<i32>)> = found.rows()?;
        let claims = rows.iter().filter_map(|(order, _, _)| *order).collect();
        let stock = rows.iter().filter_map(|(_, product, quantity)| product.zip(*quantity)).collect();
        Ok((claims, stock))
    }

    fn decide(
        (claims, stock): &mut Self::Rows,
        Event(order): &Event<OrderCreated>,
        effects: &mut Effects<'_>,
    ) -> Outcome {
        let order_id = order.order_id;
        if !claims.take(&order_id) {
            return Outcome::ignored("this order was decided on before");
        }
        match decide(stock.get(&order.product_id).copied(), order) {
            Ok(left) => {
                effects.publish(DEDUCTED, "inventory-deducted", order_id, &Deducted { order_id });
                stock::update(
                    stock,
                    &StockValue { product_id: order.product_id, current_qty: left },
                    effects,
                );
            }
            Err(reason) => {
                let rejected = Rejected { order_id, reason: &reason };
                effects.publish(REJECTED, "inventory-deduction-rejected", order_id, &rejected);
            }
        }
        Outcome::Done
    }

    fn store(db: &Db<'_>, (_, stock): &Self::Rows) -> DbResult<()> {
        stock::store(db, stock)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Claims, Event, Outcome, Table, Uuid,
        dispatch::deliveries,
        many, many_or_null,
        testing::{Folded, TestHost, fold, record},
    };

    use super::{Deduct, OrderCreated, decide};
    use crate::{DEDUCTED, ORDER_CREATED, REJECTED, STOCK_UPDATED, define};

    fn order(id: u128, product_id: i32, order_qty: i32) -> Event<OrderCreated> {
        Event(OrderCreated { order_id: Uuid(id), product_id, order_qty })
    }

    fn deduct<const N: usize>(available: i32, orders: [Event<OrderCreated>; N]) -> Folded<Deduct> {
        let claims = Claims::from_iter(orders.iter().map(|order| order.0.order_id));
        fold::<Deduct>((claims, Table::from_iter([(7, available)])), orders)
    }

    #[test]
    fn only_what_is_there_is_deducted() {
        for (available, qty, expected) in [
            (Some(5), 3, Ok(2)),
            (Some(5), 5, Ok(0)),
            (Some(i32::MAX), i32::MAX, Ok(0)),
            (Some(5), 6, Err("product 7 has 5 left, 6 were ordered")),
            (Some(0), 1, Err("product 7 has 0 left, 1 were ordered")),
            (Some(5), 0, Err("a quantity of 0 cannot be deducted")),
            (Some(5), i32::MIN, Err("a quantity of -2147483648 cannot be deducted")),
            (None, 1, Err("product 7 does not exist")),
            (None, -1, Err("a quantity of -1 cannot be deducted")),
        ] {
            let Event(order) = order(1, 7, qty);
            assert_eq!(decide(available, &order), expected.map_err(str::to_owned), "{qty} of {available:?}");
        }
    }

    #[test]
    fn orders_of_one_batch_see_each_other() {
        let folded = deduct(5, [order(1, 7, 3), order(2, 7, 2), order(3, 7, 1)]);
        assert_eq!(folded.rows.1.get(&7), Some(&0));
        assert_eq!(folded.effects.topics(), [DEDUCTED, STOCK_UPDATED, DEDUCTED, STOCK_UPDATED, REJECTED]);
        assert_eq!(folded.effects.values()[1], r#"{"productId":7,"currentQty":2}"#);
        assert_eq!(folded.effects.values()[3], r#"{"productId":7,"currentQty":0}"#);
    }

    #[test]
    fn a_repeated_order_is_deducted_once() {
        let folded = deduct(5, [order(1, 7, 3), order(1, 7, 3)]);
        assert_eq!(folded.rows.1.get(&7), Some(&2));
        assert_eq!(folded.effects.topics(), [DEDUCTED, STOCK_UPDATED]);
        assert!(matches!(folded.answers[..], [Outcome::Done, Outcome::Ignored(_)]));
    }

    #[test]
    fn foreign_records_are_read_and_replies_written_as_the_contract_has_them() {
        let id = "0193a1b2-0000-7000-8000-00000000abcd";
        let value = format!(
            r#" {{"note":{{"a":[1,null]}},"timestamp":"2026-11-22T19:28:00.1234567Z","orderQty": 9,
                "orderId":"{}","productId":7}}"#,
            id.to_uppercase()
        );
        let batch = [record(ORDER_CREATED, "oops"), record(ORDER_CREATED, &value)];
        let host = TestHost::default().answer([
            many_or_null([Some(id.parse::<Uuid>().unwrap()), None]),
            many_or_null([None, Some(7)]),
            many_or_null([None, Some(8)]),
        ]);
        let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
        assert!(matches!(&outcomes[..], [Outcome::Reject(_), Outcome::Done]));
        let recorded = host.recorded();
        let rejected = format!(r#"{{"orderId":"{id}","reason":"product 7 has 8 left, 9 were ordered"}}"#);
        assert_eq!(recorded.values(), [rejected]);
        assert_eq!(recorded.messages[0].key.as_deref(), Some(id.as_bytes()));
        assert_eq!((recorded.messages[0].cause, recorded.statements.len()), (1, 1));
    }

    #[test]
    fn a_batch_costs_two_statements() {
        let order = |n: u8| {
            let value = format!(
                r#"{{"orderId":"0193a1b2-0000-7000-8000-0000000000{n:02}","productId":7,"orderQty":1}}"#
            );
            record(ORDER_CREATED, &value)
        };
        let batch: Vec<_> = (10..99).map(order).collect();
        let ids: Vec<_> =
            (10..99).map(|n| format!("0193a1b2-0000-7000-8000-0000000000{n}").parse::<Uuid>().ok()).collect();
        let host = TestHost::default().answer([
            many_or_null(ids.into_iter().chain([None])),
            many_or_null([None; 89].into_iter().chain([Some(7)])),
            many_or_null([None; 89].into_iter().chain([Some(100)])),
        ]);
        let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done)));
        let recorded = host.recorded();
        assert_eq!((recorded.statements.len(), recorded.messages.len()), (2, 2 * 89));
        assert_eq!(format!("{:?}", recorded.statements[1].1[1]), format!("{:?}", many([11])));
    }
}
