//! Owns the stock: creates and sets it (`POST /stocks`, `PATCH /stocks/{productId}`) and deducts orders from
//! it.

mod create;
mod deduct;
mod set;
mod stock;

use saga_plugin::{Correlation, Definition, migration};

const ORDER_CREATED: &str = "order-created-topic";
const DEDUCTED: &str = "inventory-deducted-topic";
const REJECTED: &str = "inventory-deduction-rejected-topic";
const STOCK_CREATED: &str = "stock-created-topic";
const STOCK_UPDATED: &str = "stock-updated-topic";

fn define() -> Definition {
    Definition::new("inventory-command", env!("CARGO_PKG_VERSION"))
        .on::<deduct::Deduct>(ORDER_CREATED, Correlation::Json("/orderId"))
        .http::<create::CreateStock>("POST", "/stocks")
        .http::<set::SetStock>("PATCH", "/stocks/{productId}")
        .publishes(&[DEDUCTED, REJECTED, STOCK_CREATED, STOCK_UPDATED])
        .migrations([
            migration!("../../../migrations/cmd-inventory/0001_stock.sql"),
            migration!("../../../migrations/cmd-inventory/0002_decision.sql"),
        ])
}

saga_plugin::plugin!(define);
