//! Values, keys, headers and partitions of what is published to the six topics.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::system::{Mark, System, about, expect_utc, order_request};
use crate::caller::Request;
use crate::report::Report;
use crate::service::{
    DEDUCTED, NOTIFICATIONS, ORDER_CREATED, REJECTED, STOCK_CREATED, STOCK_UPDATED, TOPICS,
};
use crate::topic::{Record, partition_of, partitions};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The members that the caller gives beside it.
const TRACE_STATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";

/// A scenario, and the records that it published.
struct Scenario {
    product: i64,
    confirmed: String,
    confirmed_body: String,
    cancelled: String,
    records: Vec<Record>,
}

/// Checks the area.
pub async fn check(system: &System, report: &mut Report) {
    report.area("records");
    let scenario = match run_scenario(system).await {
        Ok(scenario) => scenario,
        Err(error) => return report.note("a product, two orders and a new quantity", Err(error)),
    };
    report.note("order-created is the body of the answer", scenario.order_created());
    report.note("inventory-deducted and -rejected name the order", scenario.replies());
    report.note("stock-created and stock-updated, one for each change, in order", scenario.stocks());
    report.note("one notification per order", scenario.notifications());
    report.note("every record has the CloudEvents headers", scenario.each(cloud_event));
    report.note("every ce_id occurs once", scenario.distinct());
    report.note("the records of a product have ascending sequences", scenario.sequenced());
    report.note("the caller's trace continues in every record of the order", scenario.traced());
    report.note(
        "every record is in the partition that a Java client chooses for its key",
        scenario.placed(system),
    );
}

/// `traceparent` and `tracestate`.
fn trace_of(record: &Record) -> (&str, &str) {
    let value = |name| record.header(name).unwrap_or_default();
    (value("traceparent"), value("tracestate"))
}

fn is_callers((parent, state): &(&str, &str)) -> bool {
    parent.contains(TRACE) && *state == TRACE_STATE
}

async fn run_scenario(system: &System) -> Result<Scenario> {
    system.quiet().await?;
    let mark: Mark = system.mark().await?;
    let product = system.product(10).await?;
    let traced = |request: Request| {
        let traced = request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
        traced.header("tracestate", TRACE_STATE).header("Prefer", "wait=25")
    };
    let confirmed = system.send(traced(order_request(product, 3))).await?.expect(201)?;
    let cancelled = system.send(traced(order_request(product, 8))).await?.expect(201)?;
    system.send(Request::new("PATCH", format!("/stocks/{product}?qty=98"))).await?.expect(200)?;
    let id = |member: Value| member.as_str().unwrap_or_default().to_owned();
    Ok(Scenario {
        product,
        confirmed: id(confirmed.member("orderId")?),
        confirmed_body: confirmed.text().replace(r#","orderStatus":"CONFIRMED""#, ""),
        cancelled: id(cancelled.member("orderId")?),
        records: system.since(&mark).await?,
    })
}

impl Scenario {
    fn values(&self, topic: &str, what: &str) -> Vec<&str> {
        about(&self.records, topic, what).iter().map(|record| record.text()).collect()
    }

    fn order_created(&self) -> Result<()> {
        let values = self.values(ORDER_CREATED, &self.confirmed);
        ensure!(values == [self.confirmed_body.as_str()], "{values:?} instead of {}", self.confirmed_body);
        ensure!(self.values(ORDER_CREATED, &self.cancelled).len() == 1, "another order-created");
        self.keyed(ORDER_CREATED, &self.confirmed)
    }

    fn replies(&self) -> Result<()> {
        let values = self.values(DEDUCTED, &self.confirmed);
        ensure!(values == [format!(r#"{{"orderId":"{}"}}"#, self.confirmed)], "deducted: {values:?}");
        let values = self.values(REJECTED, &self.cancelled);
        let plain = format!(r#"{{"orderId":"{}""#, self.cancelled);
        let [value] = values[..] else { anyhow::bail!("rejected: {values:?}") };
        let rest = value.strip_prefix(&plain).with_context(|| format!("rejected: {value}"))?;
        ensure!(
            rest == "}" || (rest.starts_with(r#","reason":""#) && rest.ends_with(r#""}"#)),
            "rejected: {value}"
        );
        ensure!(
            serde_json::from_str::<Value>(value)?.as_object().is_some_and(|object| object.len() <= 2),
            "rejected: {value}"
        );
        let none =
            self.values(DEDUCTED, &self.cancelled).len() + self.values(REJECTED, &self.confirmed).len();
        ensure!(none == 0, "{none} replies too many");
        self.keyed(DEDUCTED, &self.confirmed)?;
        self.keyed(REJECTED, &self.cancelled)
    }

    fn stocks(&self) -> Result<()> {
        let key = self.product.to_string();
        let stock = |quantity: i64| format!(r#"{{"productId":{key},"currentQty":{quantity}}}"#);
        let of_key = |topic: &str| -> Vec<&str> {
            let keyed =
                self.records.iter().filter(|record| record.topic == topic && record.key_text() == Some(&key));
            keyed.map(Record::text).collect()
        };
        ensure!(of_key(STOCK_CREATED) == [stock(10)], "created: {:?}", of_key(STOCK_CREATED));
        ensure!(of_key(STOCK_UPDATED) == [stock(7), stock(98)], "updated: {:?}", of_key(STOCK_UPDATED));
        Ok(())
    }

    fn notifications(&self) -> Result<()> {
        for (order, kind) in [(&self.confirmed, "OrderConfirmed"), (&self.cancelled, "OrderCancelled")] {
            let values = self.values(NOTIFICATIONS, order);
            ensure!(values == [format!("{kind}:{order}")], "{values:?}");
            self.keyed(NOTIFICATIONS, order)?;
        }
        Ok(())
    }

    fn keyed(&self, topic: &str, order: &str) -> Result<()> {
        let other =
            about(&self.records, topic, order).into_iter().find(|record| record.key_text() != Some(order));
        ensure!(other.is_none(), "{topic} of {order} has the key {:?}", other.map(Record::key_text));
        Ok(())
    }

    fn each(&self, check: fn(&Record) -> Result<()>) -> Result<()> {
        ensure!(!self.records.is_empty(), "no records");
        self.records.iter().try_for_each(|record| {
            check(record).with_context(|| format!("{} {}", record.topic, record.text()))
        })
    }

    fn distinct(&self) -> Result<()> {
        let mut ids: Vec<_> = self.records.iter().map(|record| record.header("ce_id")).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(ids.len() == self.records.len(), "{} ids of {} records", ids.len(), self.records.len());
        Ok(())
    }

    fn sequenced(&self) -> Result<()> {
        let key = self.product.to_string();
        for topic in [STOCK_CREATED, STOCK_UPDATED] {
            let of_product = self.records.iter().filter(|record| record.topic == topic);
            let of_product = of_product.filter(|record| record.key_text() == Some(&key));
            let sequences: Vec<_> = of_product.map(|record| record.header("ce_sequence")).collect();
            ensure!(!sequences.is_empty() && sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
        }
        Ok(())
    }

    fn traced(&self) -> Result<()> {
        for (order, count) in [(&self.confirmed, 3), (&self.cancelled, 3)] {
            let of_order = self.records.iter().filter(|record| record.key_text() == Some(order));
            let traces: Vec<_> = of_order.map(trace_of).collect();
            ensure!(traces.len() == count, "{} records of {order}", traces.len());
            ensure!(traces.iter().all(is_callers), "{traces:?}");
        }
        let deduction = format!(r#""currentQty":{}}}"#, 7);
        let update = self
            .records
            .iter()
            .find(|record| record.topic == STOCK_UPDATED && record.text().ends_with(&deduction));
        let trace = update.map(trace_of);
        ensure!(trace.as_ref().is_some_and(is_callers), "stock-updated of the deduction: {trace:?}");
        Ok(())
    }

    fn placed(&self, system: &System) -> Result<()> {
        let mut counts = HashMap::new();
        for topic in TOPICS {
            counts.insert(topic, partitions(&system.target.kafka, topic)?);
        }
        for record in &self.records {
            let partitions = counts.get(record.topic.as_str()).copied().unwrap_or_default();
            let expected = partition_of(record.key.as_deref().unwrap_or_default(), partitions);
            ensure!(
                record.partition == expected,
                "{} {:?} in {} instead of {expected}",
                record.topic,
                record.key_text(),
                record.partition
            );
        }
        Ok(())
    }
}

fn cloud_event(record: &Record) -> Result<()> {
    let header = |name: &str| record.header(name).with_context(|| format!("no header {name}"));
    ensure!(header("ce_specversion")? == "1.0", "ce_specversion {}", header("ce_specversion")?);
    ensure!(!header("ce_type")?.is_empty(), "an empty ce_type");
    let source = header("ce_source")?.strip_prefix("/saga-host/").and_then(|source| source.split_once('/'));
    source.with_context(|| format!("ce_source {:?}", record.header("ce_source")))?;
    let id: Vec<&str> = header("ce_id")?.split(':').collect();
    let numbers = id.iter().skip(1).all(|part| part.parse::<u64>().is_ok());
    let is_identity = |text: &str| {
        text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    ensure!(id.len() == 5 && is_identity(id[0]) && numbers, "ce_id {id:?}");
    let sequence: Vec<&str> = header("ce_sequence")?.split('-').collect();
    let lengths: Vec<usize> = sequence.iter().map(|part| part.len()).collect();
    ensure!(
        lengths == [16, 20, 5] && sequence[0] == id[0] && sequence[2].parse() == id[4].parse::<u64>(),
        "ce_sequence {sequence:?} of {id:?}"
    );
    expect_utc(&Value::from(header("ce_time")?))?;
    let kind = header("content-type")?;
    let expected = if record.topic == NOTIFICATIONS { "text/plain" } else { "application/json" };
    ensure!(kind.starts_with(expected), "content-type {kind}");
    let trace: Vec<&str> = header("traceparent")?.split('-').collect();
    let lengths: Vec<usize> = trace.iter().map(|part| part.len()).collect();
    ensure!(lengths == [2, 32, 16, 2], "traceparent {trace:?}");
    let mut names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == record.headers.len(), "a header twice: {names:?}");
    Ok(())
}
