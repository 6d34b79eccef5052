#![allow(clippy::unwrap_used, reason = "a test may panic")]

use saga_plugin::{
    Claims, Event, Outcome, Table, Uuid,
    bindings::saga::plugin::postgres::Param,
    dispatch::deliveries,
    many, many_or_null,
    testing::{Folded, Recorded, TestHost, fold, record},
};

use super::{Decision, Deduct, OrderCreated};
use crate::{DEDUCTED, ORDER_CREATED, REJECTED, STOCK_UPDATED, define};

const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

fn order(id: u128, order_qty: i32) -> Event<OrderCreated> {
    Event(OrderCreated { order_id: Uuid(id), product_id: 7, order_qty })
}

fn of(order_qty: i32, available: Option<i32>) -> Decision {
    Decision { product_id: 7, order_qty, available }
}

/// Decides on new orders.
fn deduct<const N: usize>(available: i32, orders: [Event<OrderCreated>; N]) -> Folded<Deduct> {
    let decision =
        |Event(order): &Event<OrderCreated>| (order.order_id, of(order.order_qty, Some(available)));
    let decisions: Table<_, _> = orders.iter().map(decision).collect();
    let claims = Claims::from_iter(orders.iter().map(|order| order.0.order_id));
    fold::<Deduct>(((claims, decisions), Table::from_iter([(7, available)])), orders)
}

/// The columns that `load` reads: of each order whether it is claimed and its decision, then the stock.
fn loaded(orders: &[(bool, Uuid, Decision)], stock: Option<i32>) -> [Param; 5] {
    let rows = || orders.iter();
    [
        many(rows().map(|row| row.0).chain(stock.map(|_| false))),
        many_or_null(rows().map(|row| Some(row.1)).chain(stock.map(|_| None))),
        many(rows().map(|row| row.2.product_id).chain(stock.map(|_| 7))),
        many_or_null(rows().map(|row| Some(row.2.order_qty)).chain(stock.map(|_| None))),
        many_or_null(rows().map(|row| row.2.available).chain(stock.map(Some))),
    ]
}

fn run(answer: [Param; 5], values: &[String]) -> (Vec<Outcome>, Recorded) {
    let host = TestHost::default().answer(answer);
    let batch: Vec<_> = values.iter().map(|value| record(ORDER_CREATED, value)).collect();
    let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
    (outcomes, host.recorded())
}

fn value(order_qty: i32) -> String {
    format!(r#"{{"orderId":"{ID}","productId":7,"orderQty":{order_qty}}}"#)
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
        assert_eq!(of(qty, available).outcome(), expected.map_err(str::to_owned), "{qty} of {available:?}");
    }
}

#[test]
fn orders_of_one_batch_see_each_other() {
    let folded = deduct(5, [order(1, 3), order(2, 2), order(3, 1)]);
    assert_eq!(folded.rows.1.get(&7), Some(&0));
    assert_eq!(folded.effects.topics(), [DEDUCTED, STOCK_UPDATED, DEDUCTED, STOCK_UPDATED, REJECTED]);
    assert_eq!(folded.effects.values()[1], r#"{"productId":7,"currentQty":2}"#);
    assert_eq!(folded.effects.values()[3], r#"{"productId":7,"currentQty":0}"#);
}

/// What a batch leaves in the database has the outcomes that it published.
#[test]
fn only_rejections_that_earlier_orders_of_the_batch_cause_are_corrected() {
    let folded = deduct(5, [order(1, 6), order(2, 3), order(3, 2), order(4, 1), order(5, 0)]);
    let (_, decisions) = &folded.rows.0;
    assert_eq!(
        decisions.changed().collect::<Vec<_>>(),
        [(&Uuid(4), &of(1, Some(0))), (&Uuid(5), &of(0, Some(0)))]
    );
    let published = [(1, false), (2, true), (3, true), (4, false), (5, false)];
    for (id, deducted) in published {
        assert_eq!(decisions.get(&Uuid(id)).unwrap().outcome().is_ok(), deducted, "order {id}");
    }
}

#[test]
fn a_decision_is_made_once_and_its_reply_is_repeated() {
    let id = ID.parse().unwrap();
    let deducted = format!(r#"{{"orderId":"{ID}"}}"#);
    let rejected = format!(r#"{{"orderId":"{ID}","reason":"product 7 has 1 left, 3 were ordered"}}"#);
    let updated = r#"{"productId":7,"currentQty":6}"#.to_owned();
    let (enough, little) = (of(3, Some(9)), of(3, Some(1)));
    for (what, stored, values, expected, statements) in [
        ("first", Some((true, id, enough)), vec![value(3)], vec![&deducted, &updated], 2),
        ("after a deduction", Some((false, id, enough)), vec![value(3)], vec![&deducted], 1),
        ("after a rejection", Some((false, id, little)), vec![value(3)], vec![&rejected], 1),
        ("with another quantity", Some((false, id, little)), vec![value(1)], vec![], 1),
        ("without what it was made from", None, vec![value(3)], vec![], 1),
        (
            "in one batch",
            Some((true, id, enough)),
            vec![value(3); 2],
            vec![&deducted, &updated, &deducted],
            2,
        ),
    ] {
        let (outcomes, recorded) = run(loaded(stored.as_slice(), Some(9)), &values);
        let ignored = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Ignored(_))).count();
        assert_eq!(ignored, usize::from(expected.is_empty()), "{what}: {outcomes:?}");
        assert_eq!(recorded.values().iter().collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(recorded.statements.len(), statements, "{what}");
    }
}

#[test]
fn an_order_that_is_rejected_in_its_batch_is_rejected_again() {
    let folded = deduct(5, [order(1, 3), order(2, 3), order(2, 3)]);
    assert_eq!(folded.effects.topics(), [DEDUCTED, STOCK_UPDATED, REJECTED, REJECTED]);
    let values = folded.effects.values();
    assert!(values[2] == values[3] && values[3].contains("product 7 has 2 left"), "{values:?}");
}

#[test]
fn foreign_records_are_read_and_replies_written_as_the_contract_has_them() {
    let value = format!(
        r#" {{"note":{{"a":[1,null]}},"timestamp":"2026-11-22T19:28:00.1234567Z","orderQty": 9,
            "orderId":"{}","productId":7}}"#,
        ID.to_uppercase()
    );
    let claimed = loaded(&[(true, ID.parse().unwrap(), of(9, Some(8)))], Some(8));
    let (outcomes, recorded) = run(claimed, &["oops".to_owned(), value]);
    assert!(matches!(&outcomes[..], [Outcome::Reject(_), Outcome::Done]));
    let rejected = format!(r#"{{"orderId":"{ID}","reason":"product 7 has 8 left, 9 were ordered"}}"#);
    assert_eq!(recorded.values(), [rejected]);
    assert_eq!(recorded.messages[0].key.as_deref(), Some(ID.as_bytes()));
    assert_eq!((recorded.messages[0].cause, recorded.statements.len()), (1, 1));
}

#[test]
fn a_batch_costs_two_statements() {
    let ids: Vec<String> = (10..99).map(|n| format!("0193a1b2-0000-7000-8000-0000000000{n}")).collect();
    let values: Vec<_> =
        ids.iter().map(|id| format!(r#"{{"orderId":"{id}","productId":7,"orderQty":1}}"#)).collect();
    for (stock, deducted) in [(100, 89), (80, 80)] {
        let claim = |id: &String| (true, id.parse().unwrap(), of(1, Some(stock)));
        let claims: Vec<_> = ids.iter().map(claim).collect();
        let (outcomes, recorded) = run(loaded(&claims, Some(stock)), &values);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done)));
        assert_eq!((recorded.statements.len(), recorded.messages.len()), (2, 89 + deducted));
        let stored = &recorded.statements[1].1;
        assert_eq!(format!("{:?}", stored[1]), format!("{:?}", many([stock - deducted as i32])));
        assert_eq!(stored.len(), if deducted == 89 { 2 } else { 4 });
    }
}
