//! Keeps what orders were notified of, and shows it (`GET /notifications?orderId=`).

mod keep;
mod list;

use saga_plugin::{Correlation, Definition, migration};

const NOTIFICATIONS: &str = "order-notifications-topic";

/// Units are started this far apart: fewer and larger ones.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("notification", env!("CARGO_PKG_VERSION"))
        .on::<keep::Keep>(NOTIFICATIONS, Correlation::RecordKey)
        .get::<list::Notifications>("/notifications")
        .gather_ms(GATHER_MS)
        .migrations([migration!("../../../migrations/notification/0001_order_notification.sql")])
}

saga_plugin::plugin!(define);
