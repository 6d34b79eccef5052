//! Stores the notifications of orders, and shows them (`GET /notifications?orderId=`).

mod list;
mod store;

use saga_plugin::{Correlation, Definition, migration};

const NOTIFICATIONS: &str = "order-notifications-topic";

/// Milliseconds to gather records for one unit: fewer and larger ones cost less.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("notification", env!("CARGO_PKG_VERSION"))
        .on::<store::StoreNotifications>(NOTIFICATIONS, Correlation::RecordKey)
        .get::<list::Notifications>("/notifications")
        .gather_ms(GATHER_MS)
        .migrations([migration!("../../../migrations/notification/0001_order_notification.sql")])
}

saga_plugin::plugin!(define);
