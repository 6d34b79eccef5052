//! The names that the wire contract fixes: databases, topics, and which service reads which topic.

/// What the orchestrator publishes for a new order.
pub const ORDER_CREATED: &str = "order-created-topic";
/// What inventory publishes when it has deducted the stock.
pub const DEDUCTED: &str = "inventory-deducted-topic";
/// What inventory publishes when the stock is too low.
pub const REJECTED: &str = "inventory-deduction-rejected-topic";
/// What inventory publishes for a new product.
pub const STOCK_CREATED: &str = "stock-created-topic";
/// What inventory publishes for a changed quantity.
pub const STOCK_UPDATED: &str = "stock-updated-topic";
/// What the orchestrator publishes at the end of an order.
pub const NOTIFICATIONS: &str = "order-notifications-topic";

/// All six topics.
pub const TOPICS: [&str; 6] =
    [ORDER_CREATED, DEDUCTED, REJECTED, STOCK_CREATED, STOCK_UPDATED, NOTIFICATIONS];

/// One plugin: its name is its consumer group.
pub struct Service {
    /// Name of the plugin and of its consumer group.
    pub plugin: &'static str,
    /// Its database.
    pub database: &'static str,
    /// Topics that it consumes.
    pub consumes: &'static [&'static str],
}

/// The five services.
pub const SERVICES: [Service; 5] = [
    Service { plugin: "order-orchestrator", database: "cmd-order", consumes: &[DEDUCTED, REJECTED] },
    Service { plugin: "order-query", database: "query-order", consumes: &[ORDER_CREATED, NOTIFICATIONS] },
    Service { plugin: "inventory-command", database: "cmd-inventory", consumes: &[ORDER_CREATED] },
    Service {
        plugin: "inventory-query",
        database: "query-inventory",
        consumes: &[STOCK_CREATED, STOCK_UPDATED],
    },
    Service { plugin: "notification", database: "notification", consumes: &[NOTIFICATIONS] },
];
