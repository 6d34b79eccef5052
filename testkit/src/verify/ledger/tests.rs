//! Tests of the ledger, on small cases.

use super::{Flow, Ledger, Stock};
use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, STOCK_CREATED, STOCK_UPDATED};
use crate::topic::Record;

pub(in crate::verify) const ORDER: &str = "0193a1b2-0000-7000-8000-00000000abcd";

pub(in crate::verify) fn record(topic: &str, id: &str, key: &str, value: &str) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    Record {
        topic: topic.to_owned(),
        partition: 0,
        offset: 0,
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![header("ce_id", id), header("ce_source", "/saga-host/db/plugin")],
    }
}

/// A product of 10, an order of 3 that is confirmed, then 50 set by a user.
pub(in crate::verify) fn confirmed() -> Ledger {
    let mut ledger = Ledger::default();
    let order = format!(
        r#"{{"orderId":"{ORDER}","productId":7,"orderQty":3,"timestamp":"2026-11-22T19:28:00.123Z"}}"#
    );
    ledger.add(&record(ORDER_CREATED, "o:1:1:1:0", ORDER, &order));
    ledger.add(&record(DEDUCTED, "i:1:1:4:0", ORDER, &format!(r#"{{"orderId":"{ORDER}"}}"#)));
    ledger.add(&record(STOCK_CREATED, "i:2:1:1:0", "7", r#"{"productId":7,"currentQty":10}"#));
    ledger.add(&record(STOCK_UPDATED, "i:1:1:4:1", "7", r#"{"productId":7,"currentQty":7}"#));
    ledger.add(&record(STOCK_UPDATED, "i:2:1:2:0", "7", r#"{"productId":7,"currentQty":50}"#));
    ledger.add(&record(NOTIFICATIONS, "o:1:1:2:0", ORDER, &format!("OrderConfirmed:{ORDER}")));
    ledger
}

#[test]
fn a_deduction_differs_from_a_change_by_a_user() {
    let ledger = confirmed();
    assert_eq!(ledger.troubles, Vec::<String>::new());
    assert_eq!(ledger.stocks[&7], Stock { set: 53, taken: 3, quantity: 50 });
    let flow = Flow { created: 1, product: 7, qty: 3, deducted: 1, confirmed: 1, ..Flow::default() };
    assert_eq!(ledger.orders.values().collect::<Vec<_>>(), [&flow]);
    assert_eq!((ledger.distinct, ledger.deduction_updates), (6, 1));
}

#[test]
fn a_repeated_record_counts_once_and_must_have_the_same_bytes() {
    let mut ledger = confirmed();
    ledger.add(&record(NOTIFICATIONS, "o:1:1:2:0", ORDER, &format!("OrderConfirmed:{ORDER}")));
    assert_eq!((ledger.repeated, ledger.distinct, ledger.troubles.len()), (1, 6, 0));
    ledger.add(&record(NOTIFICATIONS, "o:1:1:2:0", ORDER, &format!("OrderCancelled:{ORDER}")));
    assert_eq!((ledger.repeated, ledger.troubles.len()), (2, 1));
}

#[test]
fn a_record_that_breaks_the_contract_is_named() {
    let mut ledger = Ledger::default();
    let upper = ORDER.to_uppercase();
    ledger.add(&record(DEDUCTED, "a:1", ORDER, "no json"));
    ledger.add(&record(DEDUCTED, "a:2", "other", &format!(r#"{{"orderId":"{ORDER}"}}"#)));
    ledger.add(&record(DEDUCTED, "a:3", &upper, &format!(r#"{{"orderId":"{upper}"}}"#)));
    ledger.add(&record(STOCK_CREATED, "a:4", "7", r#"{"productId":7,"currentQty":-1}"#));
    assert_eq!(ledger.troubles.len(), 4, "{:?}", ledger.troubles);
}

#[test]
fn foreign_records_are_counted_separately() {
    let mut ledger = Ledger::default();
    let mut foreign = record(DEDUCTED, "x", "", &format!(r#"{{"orderId":"{}"}}"#, ORDER.to_uppercase()));
    foreign.headers.clear();
    ledger.add(&foreign);
    assert_eq!((ledger.foreign, ledger.foreign_orders.len(), ledger.orders.len()), (1, 1, 0));
}
