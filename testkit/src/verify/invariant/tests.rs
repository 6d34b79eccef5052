//! Tests of the invariants, on small cases.

use uuid::Uuid;

use super::super::ledger::tests::{ORDER, confirmed, record};
use super::super::rows::{Order, Rows};
use super::all;
use crate::report::Report;
use crate::service::{NOTIFICATIONS, REJECTED};
use crate::verify::Ledger;

/// Breaks the rows of one order.
type Change = fn(&mut Rows, Uuid);

fn rows() -> Rows {
    let id = Uuid::parse_str(ORDER).unwrap();
    let order = Order { product: 7, qty: 3, status: "CONFIRMED".to_owned() };
    Rows {
        orders: [(id, order.clone())].into(),
        order_views: [(id, order)].into(),
        stocks: [(7, 50)].into(),
        stock_views: [(7, 50)].into(),
        notifications: [(id, vec![format!("OrderConfirmed:{ORDER}")])].into(),
        sagas: [(id, vec!["completed".to_owned()])].into(),
        parked: 0,
    }
}

fn broken(ledger: &Ledger, rows: &Rows) -> Vec<String> {
    all(ledger, rows).into_iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| name).collect()
}

#[test]
fn a_whole_order_breaks_nothing() {
    assert_eq!(broken(&confirmed(), &rows()), Vec::<String>::new());
}

#[test]
fn each_break_is_seen() {
    let id = Uuid::parse_str(ORDER).unwrap();
    let changes: [(&str, Change); 7] = [
        ("in stock", |rows, _| *rows.stocks.entry(7).or_default() = 49),
        ("in stock", |rows, _| *rows.stocks.entry(7).or_default() = -1),
        ("none pending", |rows, id| {
            if let Some(order) = rows.orders.get_mut(&id) {
                order.status = "PENDING_CONFIRMATION".to_owned();
            }
        }),
        ("one saga", |rows, _| rows.sagas.clear()),
        ("keeps it", |rows, id| rows.notifications.entry(id).or_default().push("again".to_owned())),
        ("order-query equals", |rows, _| rows.order_views.clear()),
        ("does not exist", |rows, _| rows.orders.clear()),
    ];
    for (name, change) in changes {
        let mut rows = rows();
        change(&mut rows, id);
        let broken = broken(&confirmed(), &rows);
        assert!(broken.iter().any(|broken| broken.contains(name)), "{name}: {broken:?}");
    }
}

#[test]
fn a_second_notification_and_a_second_answer_are_seen() {
    let mut ledger = confirmed();
    ledger.add(&record(NOTIFICATIONS, "o:1:1:9:0", ORDER, &format!("OrderConfirmed:{ORDER}")));
    ledger.add(&record(REJECTED, "i:1:1:9:0", ORDER, &format!(r#"{{"orderId":"{ORDER}"}}"#)));
    let broken = broken(&ledger, &rows());
    assert_eq!(broken.len(), 2, "{broken:?}");
}

#[test]
fn figures_of_a_run_that_lost_an_order_are_refused() {
    let mut rows = rows();
    rows.orders.clear();
    let mut report = Report::silent();
    all(&confirmed(), &rows).into_iter().for_each(|(name, outcome)| report.note(name, outcome));
    let refusal = format!("{:#}", report.release("", &0, None).unwrap_err());
    assert!(refusal.contains("nothing names an order that does not exist"), "{refusal}");
}
