//! The contents of the five databases. The statements name the services' own tables, which `migrations/`
//! creates.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::database::Databases;
use crate::service::SERVICES;

/// One order, as the command side or the query side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The product.
    pub product: i64,
    /// The ordered quantity.
    pub qty: i64,
    /// `PENDING_CONFIRMATION`, `CONFIRMED` or `CANCELLED`.
    pub status: String,
}

/// All rows that the invariants compare.
#[derive(Debug, Default)]
pub struct Rows {
    /// `cmd-order`.
    pub orders: HashMap<Uuid, Order>,
    /// `query-order`.
    pub order_views: HashMap<Uuid, Order>,
    /// `cmd-inventory`: quantity by product.
    pub stocks: BTreeMap<i64, i64>,
    /// `query-inventory`: quantity by product.
    pub stock_views: BTreeMap<i64, i64>,
    /// `notification`: messages by order.
    pub notifications: HashMap<Uuid, Vec<String>>,
    /// Endings of sagas by order; empty for a live saga.
    pub sagas: HashMap<Uuid, Vec<String>>,
    /// Parked deliveries of all databases.
    pub parked: i64,
}

const ORDERS: &str =
    "SELECT order_id::text, product_id::bigint, order_qty::bigint, status::text FROM public.customer_order
     WHERE order_id >= $1::text::uuid";
const ORDER_VIEWS: &str =
    "SELECT order_id::text, product_id::bigint, order_qty::bigint, status::text FROM public.order_view
     WHERE order_id >= $1::text::uuid";
const STOCKS: &str = "SELECT product_id::bigint, current_qty::bigint FROM public.stock";
const STOCK_VIEWS: &str = "SELECT product_id::bigint, current_qty::bigint FROM public.stock_view";
const NOTIFICATIONS: &str =
    "SELECT order_id::text, message::text FROM public.order_notification WHERE order_id >= $1::text::uuid";
/// The key is the id of the order as text. Compared byte by byte, it sorts as the id does.
const SAGAS: &str = r#"
    SELECT key, '' FROM saga.saga_live
     WHERE type = 'order' AND key COLLATE "C" >= $1::text::uuid::text
    UNION ALL
    SELECT key, ending FROM saga.saga_done
     WHERE type = 'order' AND key COLLATE "C" >= $1::text::uuid::text"#;

impl Rows {
    /// Reads all rows, but only orders with an id from `orders_from` on.
    ///
    /// # Errors
    /// As Postgres reports.
    pub async fn read(databases: &Databases, orders_from: Uuid) -> Result<Self> {
        let from = Some(orders_from);
        let mut rows = Self {
            orders: read(databases, "cmd-order", ORDERS, from, order).await?.into_iter().collect(),
            order_views: read(databases, "query-order", ORDER_VIEWS, from, order)
                .await?
                .into_iter()
                .collect(),
            stocks: read(databases, "cmd-inventory", STOCKS, None, stock).await?.into_iter().collect(),
            stock_views: read(databases, "query-inventory", STOCK_VIEWS, None, stock)
                .await?
                .into_iter()
                .collect(),
            ..Self::default()
        };
        for (order, message) in read(databases, "notification", NOTIFICATIONS, from, keyed_text).await? {
            rows.notifications.entry(order).or_default().push(message);
        }
        for (order, ending) in read(databases, "cmd-order", SAGAS, from, keyed_text).await? {
            rows.sagas.entry(order).or_default().push(ending);
        }
        for service in SERVICES {
            rows.parked += databases.count(service.database, "SELECT count(*) FROM saga.parked").await?;
        }
        Ok(rows)
    }
}

async fn read<T>(
    databases: &Databases,
    database: &str,
    statement: &'static str,
    orders_from: Option<Uuid>,
    decode: fn(&PgRow) -> Result<T>,
) -> Result<Vec<T>> {
    let query = sqlx::query(AssertSqlSafe(statement));
    let query = if let Some(from) = orders_from { query.bind(from.to_string()) } else { query };
    let rows = query.fetch_all(databases.of(database)?).await;
    let rows = rows.with_context(|| format!("{statement} in {database}"))?;
    rows.iter().map(decode).collect::<Result<_>>().with_context(|| format!("{statement} in {database}"))
}

fn id(row: &PgRow) -> Result<Uuid> {
    Uuid::parse_str(row.try_get(0)?).context("an order id")
}

fn order(row: &PgRow) -> Result<(Uuid, Order)> {
    Ok((id(row)?, Order { product: row.try_get(1)?, qty: row.try_get(2)?, status: row.try_get(3)? }))
}

fn stock(row: &PgRow) -> Result<(i64, i64)> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn keyed_text(row: &PgRow) -> Result<(Uuid, String)> {
    Ok((id(row)?, row.try_get(1)?))
}
