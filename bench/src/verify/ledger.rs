//! What the six topics say, added up record by record. Pure: no Kafka here.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use uuid::Uuid;

use crate::service::{
    DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED, STOCK_CREATED, STOCK_UPDATED,
};
use crate::topic::Record;

const OURS: &str = "/saga-host/";
const TROUBLES_MAX: usize = 20;

/// Distinct records of one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// In order-created, with product and quantity of the last.
    pub created: u32,
    /// Product of the order.
    pub product: i64,
    /// Quantity of the order.
    pub qty: i64,
    /// In inventory-deducted.
    pub deducted: u32,
    /// In inventory-deduction-rejected.
    pub rejected: u32,
    /// `OrderConfirmed:` notifications.
    pub confirmed: u32,
    /// `OrderCancelled:` notifications.
    pub cancelled: u32,
}

/// One product, its records followed in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stock {
    /// What users have put in, creation and later settings together.
    pub set: i64,
    /// What deductions have taken out.
    pub taken: i64,
    /// The quantity of the last record.
    pub quantity: i64,
}

/// Everything that the topics hold.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By order.
    pub orders: HashMap<Uuid, Flow>,
    /// By product.
    pub stocks: BTreeMap<i64, Stock>,
    /// Records of stock-updated that belong to a deduction.
    pub deduction_updates: u64,
    /// Records that were there more than once.
    pub repeated: u64,
    /// Distinct records of ours.
    pub distinct: u64,
    /// Records without the source of a saga-host.
    pub foreign: u64,
    /// Orders that foreign records speak of.
    pub foreign_orders: HashSet<Uuid>,
    /// Products that foreign records speak of.
    pub foreign_products: HashSet<i64>,
    /// Records that break the contract by themselves, the first twenty.
    pub troubles: Vec<String>,
    contents: HashMap<u64, u64>,
    deducting_units: HashSet<u64>,
}

impl Ledger {
    /// Adds one record. Of one topic and partition they come in order; inventory-deducted comes before stock-updated.
    pub fn add(&mut self, record: &Record) {
        if !record
            .header("ce_source")
            .is_some_and(|source| source.starts_with(OURS))
        {
            self.add_foreign(record);
            return;
        }
        let Some(id) = record.header("ce_id") else {
            return self.trouble(record, "has no ce_id");
        };
        let content = hash(&(
            &record.topic,
            record.partition,
            &record.key,
            &record.value,
            &record.headers,
        ));
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
            _ => return Err("stands in an unknown topic"),
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
            let order = record
                .text()
                .split_once(':')
                .and_then(|(_, id)| Uuid::parse_str(id).ok());
            self.foreign_orders.extend(order);
        }
        let json: Value = serde_json::from_str(record.text()).unwrap_or_default();
        let order = json
            .get("orderId")
            .and_then(Value::as_str)
            .and_then(|id| Uuid::parse_str(id).ok());
        self.foreign_orders.extend(order);
        self.foreign_products
            .extend(json.get("productId").and_then(Value::as_i64));
    }

    fn trouble(&mut self, record: &Record, reason: &str) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(format!(
                "{}/{}/{} {reason}",
                record.topic, record.partition, record.offset
            ));
        }
    }

    /// The totals in a line.
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
    json.get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or("lacks a member")
}

fn number(record: &Record, name: &str) -> Result<i64, &'static str> {
    let json: Value = serde_json::from_str(record.text()).map_err(|_| "is not JSON")?;
    json.get(name)
        .and_then(Value::as_i64)
        .ok_or("lacks a number")
}

/// The unit of work that a message id names: all but the index at its end.
fn unit(id: &str) -> u64 {
    hash(&id.rsplit_once(':').map_or(id, |(unit, _)| unit))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Flow, Ledger, Stock};
    use crate::service::{DEDUCTED, NOTIFICATIONS, ORDER_CREATED, STOCK_CREATED, STOCK_UPDATED};
    use crate::topic::Record;

    pub(in crate::verify) const ORDER: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    pub(in crate::verify) fn record(topic: &str, id: &str, key: &str, value: &str) -> Record {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: vec![
                header("ce_id", id),
                header("ce_source", "/saga-host/db/plugin"),
            ],
        }
    }

    /// A product of 10, an order of 3 that is confirmed, then 50 set by a user.
    pub(in crate::verify) fn confirmed() -> Ledger {
        let mut ledger = Ledger::default();
        let order = format!(
            r#"{{"orderId":"{ORDER}","productId":7,"orderQty":3,"timestamp":"2026-11-22T19:28:00.123Z"}}"#
        );
        ledger.add(&record(ORDER_CREATED, "o:1:1:1:0", ORDER, &order));
        ledger.add(&record(
            DEDUCTED,
            "i:1:1:4:0",
            ORDER,
            &format!(r#"{{"orderId":"{ORDER}"}}"#),
        ));
        ledger.add(&record(
            STOCK_CREATED,
            "i:2:1:1:0",
            "7",
            r#"{"productId":7,"currentQty":10}"#,
        ));
        ledger.add(&record(
            STOCK_UPDATED,
            "i:1:1:4:1",
            "7",
            r#"{"productId":7,"currentQty":7}"#,
        ));
        ledger.add(&record(
            STOCK_UPDATED,
            "i:2:1:2:0",
            "7",
            r#"{"productId":7,"currentQty":50}"#,
        ));
        ledger.add(&record(
            NOTIFICATIONS,
            "o:1:1:2:0",
            ORDER,
            &format!("OrderConfirmed:{ORDER}"),
        ));
        ledger
    }

    #[test]
    fn a_deduction_is_told_from_what_a_user_sets() {
        let ledger = confirmed();
        assert_eq!(ledger.troubles, Vec::<String>::new());
        assert_eq!(
            ledger.stocks[&7],
            Stock {
                set: 53,
                taken: 3,
                quantity: 50
            }
        );
        let flow = Flow {
            created: 1,
            product: 7,
            qty: 3,
            deducted: 1,
            confirmed: 1,
            ..Flow::default()
        };
        assert_eq!(ledger.orders.values().collect::<Vec<_>>(), [&flow]);
        assert_eq!((ledger.distinct, ledger.deduction_updates), (6, 1));
    }

    #[test]
    fn a_repeated_record_counts_once_and_must_have_the_same_bytes() {
        let mut ledger = confirmed();
        ledger.add(&record(
            NOTIFICATIONS,
            "o:1:1:2:0",
            ORDER,
            &format!("OrderConfirmed:{ORDER}"),
        ));
        assert_eq!(
            (ledger.repeated, ledger.distinct, ledger.troubles.len()),
            (1, 6, 0)
        );
        ledger.add(&record(
            NOTIFICATIONS,
            "o:1:1:2:0",
            ORDER,
            &format!("OrderCancelled:{ORDER}"),
        ));
        assert_eq!((ledger.repeated, ledger.troubles.len()), (2, 1));
    }

    #[test]
    fn a_record_that_breaks_the_contract_is_named() {
        let mut ledger = Ledger::default();
        let upper = ORDER.to_uppercase();
        ledger.add(&record(DEDUCTED, "a:1", ORDER, "no json"));
        ledger.add(&record(
            DEDUCTED,
            "a:2",
            "other",
            &format!(r#"{{"orderId":"{ORDER}"}}"#),
        ));
        ledger.add(&record(
            DEDUCTED,
            "a:3",
            &upper,
            &format!(r#"{{"orderId":"{upper}"}}"#),
        ));
        ledger.add(&record(
            STOCK_CREATED,
            "a:4",
            "7",
            r#"{"productId":7,"currentQty":-1}"#,
        ));
        assert_eq!(ledger.troubles.len(), 4, "{:?}", ledger.troubles);
    }

    #[test]
    fn foreign_records_are_set_apart() {
        let mut ledger = Ledger::default();
        let mut foreign = record(
            DEDUCTED,
            "x",
            "",
            &format!(r#"{{"orderId":"{}"}}"#, ORDER.to_uppercase()),
        );
        foreign.headers.clear();
        ledger.add(&foreign);
        assert_eq!(
            (
                ledger.foreign,
                ledger.foreign_orders.len(),
                ledger.orders.len()
            ),
            (1, 1, 0)
        );
    }
}
