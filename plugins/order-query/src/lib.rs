//! Shows orders (`GET /orders`, `GET /orders/{orderId}`): a read model of order-created and of the
//! notifications of the orchestrator, which alone decides how an order ends.

mod list;
mod update;
mod view;

use saga_plugin::{Correlation, Definition, migration};

const ORDER_CREATED: &str = "order-created-topic";
const NOTIFICATIONS: &str = "order-notifications-topic";

/// Milliseconds to gather records for one unit: fewer and larger ones cost less.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("order-query", env!("CARGO_PKG_VERSION"))
        .on::<update::UpdateView>(ORDER_CREATED, Correlation::Json("/orderId"))
        .on::<update::UpdateView>(NOTIFICATIONS, Correlation::RecordKey)
        .get::<list::Orders>("/orders")
        .get::<list::OneOrder>("/orders/{orderId}")
        .gather_ms(GATHER_MS)
        .migrations([
            migration!("../../../migrations/query-order/0001_order_view.sql"),
            migration!("../../../migrations/query-order/0002_decided_by.sql"),
        ])
}

saga_plugin::plugin!(define);
