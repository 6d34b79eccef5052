//! Shows the stock (`GET /stocks`, `GET /stocks/{productId}`), from what its owner says of it.

mod list;
mod watch;

use saga_plugin::{Correlation, Definition, migration};

const STOCK_CREATED: &str = "stock-created-topic";
const STOCK_UPDATED: &str = "stock-updated-topic";

/// Units are started this far apart: fewer and larger ones.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("inventory-query", env!("CARGO_PKG_VERSION"))
        .on::<watch::Watch>(STOCK_CREATED, Correlation::Json("/productId"))
        .on::<watch::Watch>(STOCK_UPDATED, Correlation::Json("/productId"))
        .get::<list::Stocks>("/stocks")
        .get::<list::OneStock>("/stocks/{productId}")
        .gather_ms(GATHER_MS)
        .migrations([migration!("../../../migrations/query-inventory/0001_stock_view.sql")])
}

saga_plugin::plugin!(define);
