//! Shows orders (`GET /orders`, `GET /orders/{orderId}`), from what the other services say of them.

mod list;
mod view;
mod watch;

use saga_plugin::{Correlation, Definition, migration};

const ORDER_CREATED: &str = "order-created-topic";
const DEDUCTED: &str = "inventory-deducted-topic";
const REJECTED: &str = "inventory-deduction-rejected-topic";

/// Units are started this far apart: fewer and larger ones.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("order-query", env!("CARGO_PKG_VERSION"))
        .on::<watch::Watch>(ORDER_CREATED, Correlation::Json("/orderId"))
        .on::<watch::Watch>(DEDUCTED, Correlation::Json("/orderId"))
        .on::<watch::Watch>(REJECTED, Correlation::Json("/orderId"))
        .get::<list::Orders>("/orders")
        .get::<list::OneOrder>("/orders/{orderId}")
        .gather_ms(GATHER_MS)
        .migrations([migration!("../../../migrations/query-order/0001_order_view.sql")])
}

saga_plugin::plugin!(define);
