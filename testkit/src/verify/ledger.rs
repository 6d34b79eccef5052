//! The contents of the six topics, summed record by record. Pure: no Kafka here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use uuid::Uuid;

use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED, STOCK_CREATED, STOCK_UPDATED};
use crate::topic::Record;

const OURS: &str = "/saga-host/";
const TROUBLES_MAX: usize = 20;

/// Counts of the distinct records of one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Records in order-created. Product and quantity are those of the last.
    pub created: u32,
    /// Product of the order.
    pub product: i64,
    /// Quantity of the order.
    pub qty: i64,
    /// Records in inventory-deducted.
    pub deducted: u32,
    /// Records in inventory-deduction-rejected.
    pub rejected: u32,
    /// Notifications `OrderConfirmed:`.
    pub confirmed: u32,
    /// Notifications `OrderCancelled:`.
    pub cancelled: u32,
}

/// One product, from its records in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stock {
    /// Pieces that users have added, at the creation and by later settings.
    pub set: i64,
    /// Pieces that deductions have removed.
    pub taken: i64,
    /// The quantity of the last record.
    pub quantity: i64,
}

/// The totals of all topics.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By order.
    pub orders: HashMap<Uuid, Flow>,
    /// By product.
    pub stocks: BTreeMap<i64, Stock>,
    /// Records of stock-updated that belong to a deduction.
    pub deduction_updates: u64,
    /// Records that occur more than once.
    pub repeated: u64,
    /// Distinct records of a saga-host.
    pub distinct: u64,
    /// Records without the source of a saga-host.
    pub foreign: u64,
    /// Orders that foreign records name.
    pub foreign_orders: HashSet<Uuid>,
    /// Products that foreign records name.
    pub foreign_products: HashSet<i64>,
    /// Records that break the contract on their own, the first twenty.
    pub troubles: Vec<String>,
    contents: HashMap<u64, u64>,
    deducting_units: HashSet<u64>,
}

impl Ledger {
    /// Adds one record. The caller passes the records of a partition in order, and all of inventory-deducted
    /// before those of stock-updated.
    pub fn add(&mut self, record: &Record) {
        if !record.header("ce_source").is_some_and(|source| source.starts_with(OURS)) {
            self.add_foreign(record);
            return;
        }
        let Some(id) = record.header("ce_id") else {
            return self.trouble(record, "has no ce_id");
        };
        let content = hash(&(&record.topic, record.partition, &record.key, &record.value, &record.headers));
        match self.contents.insert(hash(&id), content) {
            None => self.distinct += 1,
            Some(before) => {
                self.repeated += 1;
                if before != content {
                    self.trouble(record, "repeats a ce_id with other bytes");
                }
                return;
            }
        }
        if let Err(reason) = self.add_new(record, id) {
            self.trouble(record, reason);
        }
    }

    fn add_new(&mut self, record: &Record, id: &str) -> Result<(), &'static str> {
        match record.topic.as_str() {
            ORDER_CREATED => {
                let (product, qty) = (number(record, "productId")?, number(record, "orderQty")?);
                let flow = self.flow(record, &text(record, "orderId")?)?;
                flow.created += 1;
                (flow.product, flow.qty) = (product, qty);
            }
            DEDUCTED => {
                self.deducting_units.insert(unit(id));
                self.flow(record, &text(record, "orderId")?)?.deducted += 1;
            }
            REJECTED => self.flow(record, &text(record, "orderId")?)?.rejected += 1,
            STOCK_CREATED => self.stock(record, id, true)?,
            STOCK_UPDATED => self.stock(record, id, false)?,
            NOTIFICATIONS => match record.text().split_once(':') {
                Some(("OrderConfirmed", order)) => self.flow(record, order)?.confirmed += 1,
                Some(("OrderCancelled", order)) => self.flow(record, order)?.cancelled += 1,
                _ => return Err("is no notification"),
            },
            _ => return Err("is in an unknown topic"),
        }
        Ok(())
    }

    fn flow(&mut self, record: &Record, order: &str) -> Result<&mut Flow, &'static str> {
        let id = Uuid::parse_str(order).map_err(|_| "has an orderId that is no UUID")?;
        if id.hyphenated().to_string() != order {
            return Err("has an orderId that is not lower-case and hyphenated");
        }
        if record.key_text() != Some(order) {
            return Err("has another key than its orderId");
        }
        Ok(self.orders.entry(id).or_default())
    }

    fn stock(&mut self, record: &Record, id: &str, created: bool) -> Result<(), &'static str> {
        let (product, quantity) = (number(record, "productId")?, number(record, "currentQty")?);
        if record.key_text() != Some(product.to_string().as_str()) {
            return Err("has another key than its productId");
        }
        let deduction = !created && self.deducting_units.contains(&unit(id));
        let stock = self.stocks.entry(product).or_default();
        let change = quantity - stock.quantity;
        stock.quantity = quantity;
        if deduction {
            stock.taken -= change;
            self.deduction_updates += 1;
        } else {
            stock.set += change;
        }
        match () {
            () if quantity < 0 => Err("has a negative quantity"),
            () if deduction && change >= 0 => Err("is a deduction that takes nothing"),
            () => Ok(()),
        }
    }

    fn add_foreign(&mut self, record: &Record) {
        self.foreign += 1;
        if record.topic == NOTIFICATIONS {
            let order = record.text().split_once(':').and_then(|(_, id)| Uuid::parse_str(id).ok());
            self.foreign_orders.extend(order);
        }
        let json: Value = serde_json::from_str(record.text()).unwrap_or_default();
        let order = json.get("orderId").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        self.foreign_orders.extend(order);
        self.foreign_products.extend(json.get("productId").and_then(Value::as_i64));
    }

    fn trouble(&mut self, record: &Record, reason: &str) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(format!("{}/{}/{} {reason}", record.topic, record.partition, record.offset));
        }
    }

    /// The totals in one line.
    #[must_use]
    pub fn figures(&self) -> String {
        format!(
            "{} distinct records of ours, {} repeated, {} foreign; {} orders, {} products",
            self.distinct,
            self.repeated,
            self.foreign,
            self.orders.len(),
            self.stocks.len()
        )
    }
}

fn text(record: &Record, name: &str) -> Result<String, &'static str> {
    let json: Value = serde_json::from_str(record.text()).map_err(|_| "is not JSON")?;
    json.get(name).and_then(Value::as_str).map(str::to_owned).ok_or("lacks a member")
}

fn number(record: &Record, name: &str) -> Result<i64, &'static str> {
    let json: Value = serde_json::from_str(record.text()).map_err(|_| "is not JSON")?;
    json.get(name).and_then(Value::as_i64).ok_or("lacks a number")
}

/// The unit that a message id names, hashed: the id without the index at its end.
fn unit(id: &str) -> u64 {
    hash(&id.rsplit_once(':').map_or(id, |(unit, _)| unit))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests;
