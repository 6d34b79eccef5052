//! Shows orders (`GET /orders`, `GET /orders/{orderId}`): a read model of order-created
//! and inventory's replies.

mod list;
mod update;
mod view;

use saga_plugin::{Correlation, Definition, migration};

const ORDER_CREATED: &str = "order-created-topic";
const DEDUCTED: &str = "inventory-deducted-topic";
const REJECTED: &str = "inventory-deduction-rejected-topic";

/// Milliseconds to gather records for one unit: fewer and larger ones cost less.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("order-query", env!("CARGO_PKG_VERSION"))
        .on::<update::UpdateView>(ORDER_CREATED, Correlation::Json("/orderId"))
        .on::<update::UpdateView>(DEDUCTED, Correlation::Json("/orderId"))
        .on::<update::UpdateView>(REJECTED, Correlation::Json("/orderId"))
        .get::<list::Orders>("/orders")
        .get::<list::OneOrder>("/orders/{orderId}")
        .gather_ms(GATHER_MS)
        .migrations([migration!("../../../migrations/query-order/0001_order_view.sql")])
}

saga_plugin::plugin!(define);
