//! The wire form of a stock, and the statements on `public.stock`.

use saga_plugin::{Db, DbResult, Effects, Table, many};
use serde::Serialize;

use crate::STOCK_UPDATED;

/// Quantity by product.
pub(crate) type Stock = Table<i32, i32>;

/// The value of stock-created and stock-updated.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StockValue {
    pub(crate) product_id: i32,
    pub(crate) current_qty: i32,
}

/// Sets a quantity and publishes stock-updated.
pub(crate) fn update(stock: &mut Stock, value: &StockValue, effects: &mut Effects<'_>) {
    stock.set(value.product_id, value.current_qty);
    effects.publish(STOCK_UPDATED, "stock-updated", value.product_id, value);
}

pub(crate) fn load(db: &Db<'_>, products: Vec<i32>) -> DbResult<Stock> {
    let found = db.query(
        "SELECT product_id, current_qty FROM public.stock WHERE product_id = ANY ($1::int[])
          ORDER BY product_id FOR UPDATE",
        &[many(products)],
    )?;
    Ok(found.rows()?.into_iter().collect())
}

pub(crate) fn store(db: &Db<'_>, stock: &Stock) -> DbResult<()> {
    let (products, quantities): (Vec<i32>, Vec<i32>) = stock.changed().unzip();
    db.execute(
        "UPDATE public.stock s SET current_qty = v.current_qty
           FROM unnest($1::int[], $2::int[]) v (product_id, current_qty) WHERE s.product_id = v.product_id",
        &[many(products), many(quantities)],
    )?;
    Ok(())
}
