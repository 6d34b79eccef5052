//! Shows the stock (`GET /stocks`, `GET /stocks/{productId}`): a read model of
//! stock-created and stock-updated.

mod list;
mod update;

use saga_plugin::{Correlation, Definition, migration};

const STOCK_CREATED: &str = "stock-created-topic";
const STOCK_UPDATED: &str = "stock-updated-topic";

/// Milliseconds to gather records for one unit: fewer and larger ones cost less.
const GATHER_MS: u32 = 50;

fn define() -> Definition {
    Definition::new("inventory-query", env!("CARGO_PKG_VERSION"))
        .on::<update::UpdateView>(STOCK_CREATED, Correlation::Json("/productId"))
        .on::<update::UpdateView>(STOCK_UPDATED, Correlation::Json("/productId"))
        .get::<list::Stocks>("/stocks")
        .get::<list::OneStock>("/stocks/{productId}")
        .gather_ms(GATHER_MS)
        .migrations([
            migration!("../../../migrations/query-inventory/0001_stock_view.sql"),
            migration!("../../../migrations/query-inventory/0002_sequence.sql"),
        ])
}

saga_plugin::plugin!(define);
