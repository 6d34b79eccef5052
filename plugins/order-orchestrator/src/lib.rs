//! Takes orders (`POST /orders`), runs the saga of each to its end, and shows its history
//! (`GET /orders/{orderId}/events`).

mod events;
mod order;
mod place;
mod saga;

use saga_plugin::{Correlation, Definition, migration};

const ORDER_CREATED: &str = "order-created-topic";
const DEDUCTED: &str = "inventory-deducted-topic";
const REJECTED: &str = "inventory-deduction-rejected-topic";
const NOTIFICATIONS: &str = "order-notifications-topic";

fn define() -> Definition {
    Definition::new("order-orchestrator", env!("CARGO_PKG_VERSION"))
        .http::<place::PlaceOrder>("POST", "/orders")
        .get::<events::OrderEvents>("/orders/{orderId}/events")
        .saga::<saga::OrderSaga>()
        .replies::<saga::OrderSaga>(DEDUCTED, Correlation::Json("/orderId"))
        .replies::<saga::OrderSaga>(REJECTED, Correlation::Json("/orderId"))
        .publishes(&[ORDER_CREATED, NOTIFICATIONS])
        .migrations([migration!("../../../migrations/cmd-order/0001_order.sql")])
}

saga_plugin::plugin!(define);
