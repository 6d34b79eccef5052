//! The invariants of the wire contract, each a pure comparison of topics and databases. Orders and products
//! that foreign records name are left out, since another service may own the other half of them.

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Result, bail};
use uuid::Uuid;

use super::ledger::{Flow, Ledger};
use super::rows::{Order, Rows};

const OFFENDERS_SHOWN: usize = 5;

/// An invariant with its figures, and its violations.
type Finding = (String, Result<()>);

pub(super) fn all(ledger: &Ledger, rows: &Rows) -> Vec<Finding> {
    vec![
        records(ledger),
        stock_adds_up(ledger, rows),
        stock_is_published(ledger, rows),
        orders_are_terminal(ledger, rows),
        sagas_match(ledger, rows),
        created_once(ledger, rows),
        answered_once(ledger, rows),
        notified_once(ledger, rows),
        notifications_kept(ledger, rows),
        nothing_without_order(ledger, rows),
        deductions_published(ledger),
        views_of_orders(ledger, rows),
        views_of_stocks(ledger, rows),
    ]
}

fn records(ledger: &Ledger) -> Finding {
    let name = format!(
        "{} records keep the contract; {} repeated, with the same bytes",
        ledger.distinct, ledger.repeated
    );
    (name, none_of(ledger.troubles.iter().cloned()))
}

fn stock_adds_up(ledger: &Ledger, rows: &Rows) -> Finding {
    let mut confirmed: BTreeMap<i64, i64> = BTreeMap::new();
    for order in rows.orders.values().filter(|order| order.status == "CONFIRMED") {
        *confirmed.entry(order.product).or_default() += order.qty;
    }
    let (mut set_total, mut confirmed_total, mut current_total) = (0, 0, 0);
    let mut offenders = Vec::new();
    for (product, current) in own_products(ledger, rows) {
        let set = ledger.stocks.get(&product).map_or(0, |stock| stock.set);
        let sold = confirmed.get(&product).copied().unwrap_or_default();
        (set_total, confirmed_total, current_total) =
            (set_total + set, confirmed_total + sold, current_total + current);
        if set - sold != current || current < 0 {
            offenders.push(format!("product {product}: {set} set - {sold} confirmed, but {current} there"));
        }
    }
    let name = format!(
        "{set_total} set by users - {confirmed_total} confirmed = {current_total} in stock, for each of {} \
         products",
        rows.stocks.len()
    );
    (name, none_of(offenders))
}

fn stock_is_published(ledger: &Ledger, rows: &Rows) -> Finding {
    let published = |product: &i64| ledger.stocks.get(product).map(|stock| stock.quantity);
    let offenders =
        own_products(ledger, rows).filter(|(product, current)| published(product) != Some(*current)).map(
            |(product, current)| format!("product {product}: {current}, published {:?}", published(&product)),
        );
    ("the last stock record of each product is its quantity".to_owned(), none_of(offenders))
}

fn orders_are_terminal(ledger: &Ledger, rows: &Rows) -> Finding {
    let count = |status: &str| rows.orders.values().filter(|order| order.status == status).count();
    let name = format!(
        "{} orders: {} confirmed, {} cancelled, none pending",
        rows.orders.len(),
        count("CONFIRMED"),
        count("CANCELLED")
    );
    let pending = own_orders(ledger, rows).filter(|(_, order)| !terminal(order));
    (name, none_of(pending.map(|(id, order)| format!("{id} is {}", order.status))))
}

fn sagas_match(ledger: &Ledger, rows: &Rows) -> Finding {
    let expected = |order: &Order| match order.status.as_str() {
        "CONFIRMED" => "completed",
        "CANCELLED" => "compensated",
        _ => "",
    };
    let offenders = own_orders(ledger, rows).filter_map(|(id, order)| {
        let endings = rows.sagas.get(id).map(Vec::as_slice).unwrap_or_default();
        (endings != [expected(order)]).then(|| format!("{id} is {}, its sagas {endings:?}", order.status))
    });
    ("every order has one saga, ended as the order is".to_owned(), none_of(offenders))
}

fn created_once(ledger: &Ledger, rows: &Rows) -> Finding {
    let offenders = own_orders(ledger, rows).filter_map(|(id, order)| {
        let flow = flow(ledger, id);
        let same = flow.created == 1 && flow.product == order.product && flow.qty == order.qty;
        (!same).then(|| format!("{id}: {order:?}, but {flow:?}"))
    });
    ("every order has one order-created, with its product and quantity".to_owned(), none_of(offenders))
}

fn answered_once(ledger: &Ledger, rows: &Rows) -> Finding {
    let offenders = own_orders(ledger, rows).filter_map(|(id, order)| {
        let flow = flow(ledger, id);
        let expected = match order.status.as_str() {
            "CONFIRMED" => (1, 0),
            "CANCELLED" => (0, 1),
            _ => (flow.deducted, flow.rejected),
        };
        ((flow.deducted, flow.rejected) != expected)
            .then(|| format!("{id} is {}, but {flow:?}", order.status))
    });
    ("every terminal order was either deducted or rejected, once".to_owned(), none_of(offenders))
}

fn notified_once(ledger: &Ledger, rows: &Rows) -> Finding {
    let (mut confirmed, mut cancelled) = (0, 0);
    let mut offenders = Vec::new();
    for (id, order) in own_orders(ledger, rows) {
        let flow = flow(ledger, id);
        (confirmed, cancelled) = (confirmed + flow.confirmed, cancelled + flow.cancelled);
        let expected = (u32::from(order.status == "CONFIRMED"), u32::from(order.status == "CANCELLED"));
        if (flow.confirmed, flow.cancelled) != expected {
            offenders.push(format!("{id} is {}, but {flow:?}", order.status));
        }
    }
    let name = format!(
        "one notification per terminal order by distinct ce_id: {confirmed} confirmed, {cancelled} cancelled"
    );
    (name, none_of(offenders))
}

fn notifications_kept(ledger: &Ledger, rows: &Rows) -> Finding {
    let offenders = own_orders(ledger, rows).filter_map(|(id, order)| {
        let kept = rows.notifications.get(id).cloned().unwrap_or_default();
        let expected = match order.status.as_str() {
            "CONFIRMED" => vec![format!("OrderConfirmed:{id}")],
            "CANCELLED" => vec![format!("OrderCancelled:{id}")],
            _ => Vec::new(),
        };
        (kept != expected).then(|| format!("{id} is {}, kept {kept:?}", order.status))
    });
    (
        format!("the notification service keeps it, once: {} orders", rows.notifications.len()),
        none_of(offenders),
    )
}

fn nothing_without_order(ledger: &Ledger, rows: &Rows) -> Finding {
    let known = |id: &&Uuid| !rows.orders.contains_key(*id) && !ledger.foreign_orders.contains(*id);
    let in_topics = ledger.orders.keys().filter(known).map(|id| format!("records of {id}"));
    let in_views = rows.order_views.keys().filter(known).map(|id| format!("order-query has {id}"));
    let notified = rows.notifications.keys().filter(known).map(|id| format!("notification has {id}"));
    let sagas = rows.sagas.keys().filter(known).map(|id| format!("a saga of {id}"));
    (
        "nothing names an order that does not exist".to_owned(),
        none_of(in_topics.chain(in_views).chain(notified).chain(sagas)),
    )
}

fn deductions_published(ledger: &Ledger) -> Finding {
    // An order of another service can be sent twice, and is then answered twice.
    let deducted = ledger.orders.values().map(|flow| u64::from(flow.deducted > 0)).sum::<u64>();
    let updates = ledger.deduction_updates;
    let outcome = none_of(
        (deducted != updates).then(|| format!("{deducted} deducted orders, {updates} stock records")),
    );
    (format!("one stock-updated per deducted order: {updates}"), outcome)
}

fn views_of_orders(ledger: &Ledger, rows: &Rows) -> Finding {
    let offenders = own_orders(ledger, rows).filter_map(|(id, order)| {
        let view = rows.order_views.get(id);
        (view != Some(order)).then(|| format!("{id}: {order:?}, viewed {view:?}"))
    });
    (format!("order-query equals cmd-order: {} orders", rows.order_views.len()), none_of(offenders))
}

fn views_of_stocks(ledger: &Ledger, rows: &Rows) -> Finding {
    let products = rows
        .stocks
        .keys()
        .chain(rows.stock_views.keys().filter(|product| !rows.stocks.contains_key(product)));
    let offenders =
        products.filter(|product| !ledger.foreign_products.contains(product)).filter_map(|product| {
            let (own, view) = (rows.stocks.get(product), rows.stock_views.get(product));
            (own != view).then(|| format!("product {product}: {own:?}, viewed {view:?}"))
        });
    (format!("inventory-query equals cmd-inventory: {} products", rows.stock_views.len()), none_of(offenders))
}

fn terminal(order: &Order) -> bool {
    matches!(order.status.as_str(), "CONFIRMED" | "CANCELLED")
}

fn flow(ledger: &Ledger, id: &Uuid) -> Flow {
    ledger.orders.get(id).copied().unwrap_or_default()
}

fn own_orders<'a>(ledger: &'a Ledger, rows: &'a Rows) -> impl Iterator<Item = (&'a Uuid, &'a Order)> {
    rows.orders.iter().filter(|(id, _)| !ledger.foreign_orders.contains(id))
}

fn own_products(ledger: &Ledger, rows: &Rows) -> impl Iterator<Item = (i64, i64)> {
    let own = rows.stocks.iter().filter(|(product, _)| !ledger.foreign_products.contains(product));
    own.map(|(product, current)| (*product, *current))
}

fn none_of(offenders: impl IntoIterator<Item = impl Display>) -> Result<()> {
    let mut offenders = offenders.into_iter();
    let shown: Vec<String> =
        offenders.by_ref().take(OFFENDERS_SHOWN).map(|offender| offender.to_string()).collect();
    if shown.is_empty() {
        return Ok(());
    }
    match offenders.count() {
        0 => bail!(shown.join("; ")),
        more => bail!("{}; and {more} more", shown.join("; ")),
    }
}

#[cfg(test)]
mod tests;
