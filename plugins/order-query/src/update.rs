//! Merges the facts of each batch of records into the view of orders: one statement per batch, without
//! reading first.

use saga_plugin::{Context, Db, DbResult, Delivery, Effects, Fold, Input, Outcome, Table, Timestamp, Uuid};
use serde::Deserialize;

use crate::{
    ORDER_CREATED,
    view::{self, Decided, OrderFacts, Status},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    order_id: Uuid,
    product_id: i32,
    order_qty: i32,
    timestamp: Option<Timestamp>,
}

/// How the text of a notification starts; the order's id follows.
const ENDS: [(&str, Status); 2] =
    [("OrderConfirmed:", Status::Confirmed), ("OrderCancelled:", Status::Cancelled)];

/// What one record says about its order.
pub(crate) struct OrderRecord {
    order_id: Uuid,
    facts: OrderFacts,
}

impl Input for OrderRecord {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        if delivery.topic() == ORDER_CREATED {
            let order: OrderCreated = delivery.json()?;
            let at = order.timestamp.unwrap_or(delivery.time());
            let facts = OrderFacts { created: Some((order.product_id, order.order_qty, at)), decided: None };
            return Ok(Self { order_id: order.order_id, facts });
        }
        let text = delivery.text()?;
        let end =
            ENDS.iter().find_map(|(kind, status)| Some((text.strip_prefix(kind)?.parse().ok()?, *status)));
        let (order_id, status) = end.ok_or_else(|| {
            Outcome::reject("the value is neither OrderConfirmed:<orderId> nor OrderCancelled:<orderId>")
        })?;
        let decided = Decided { sequence: delivery.sequence.clone(), at: delivery.time(), status };
        Ok(Self { order_id, facts: OrderFacts { created: None, decided: Some(decided) } })
    }
}

pub(crate) struct UpdateView;

impl Fold for UpdateView {
    type Input = OrderRecord;
    /// The facts of the batch only. The statement merges them with what is stored.
    type Rows = Table<Uuid, OrderFacts>;

    fn load(_: &Db<'_>, _: &[OrderRecord]) -> DbResult<Table<Uuid, OrderFacts>> {
        Ok(Table::default())
    }

    fn decide(facts: &mut Table<Uuid, OrderFacts>, record: &OrderRecord, _: &mut Effects<'_>) -> Outcome {
        let before = facts.get(&record.order_id).cloned().unwrap_or_default();
        facts.set(record.order_id, before.and(record.facts.clone()));
        Outcome::Done
    }

    fn store(db: &Db<'_>, facts: &Table<Uuid, OrderFacts>) -> DbResult<()> {
        view::store(db, facts)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Outcome,
        dispatch::deliveries,
        testing::{TestHost, record},
    };

    use crate::{NOTIFICATIONS, ORDER_CREATED, define};

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    #[test]
    fn a_batch_of_two_topics_is_one_statement_with_each_order_once() {
        let host = TestHost::default();
        let created = |timestamp: &str| {
            format!(r#"{{"orderId":"{ID}","productId":7,"orderQty":-5{timestamp},"more":[]}}"#)
        };
        let batch = [
            record(NOTIFICATIONS, &format!("OrderConfirmed:{}", ID.to_uppercase())),
            record(ORDER_CREATED, &created(r#","timestamp":"2026-11-22T19:28:00.1234567Z""#)),
            record(NOTIFICATIONS, &format!("OrderCancelled:{ID}")),
            record(ORDER_CREATED, &created("")),
        ];
        let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done)));
        let recorded = host.recorded();
        let [(_, params)] = &recorded.statements[..] else { unreachable!("one statement") };
        let params = format!("{params:?}");
        assert!(
            params.contains("CONFIRMED") && params.contains("[-5]") && !params.contains("CANCELLED"),
            "{params}"
        );
    }

    #[test]
    fn malformed_records_are_rejected_with_a_reason() {
        for (topic, value, named) in [
            (ORDER_CREATED, "not json", "JSON"),
            (ORDER_CREATED, "{}", "orderId"),
            (ORDER_CREATED, &format!(r#"{{"orderId":"{ID}","productId":"x","orderQty":1}}"#), "productId"),
            (
                ORDER_CREATED,
                &format!(r#"{{"orderId":"{ID}","productId":1,"orderQty":1,"timestamp":"now"}}"#),
                "timestamp",
            ),
            (NOTIFICATIONS, &format!("OrderShipped:{ID}"), "OrderConfirmed"),
            (NOTIFICATIONS, "OrderConfirmed:7", "OrderConfirmed"),
            (NOTIFICATIONS, "", "OrderConfirmed"),
        ] {
            let host = TestHost::default();
            let outcomes = deliveries(&define(), &host, &[record(topic, value)], Vec::new()).unwrap();
            let [Outcome::Reject(reason)] = &outcomes[..] else { unreachable!("{value} is rejected") };
            assert!(reason.contains(named), "{value}: {reason}");
            assert!(host.recorded().statements.is_empty());
        }
    }
}
