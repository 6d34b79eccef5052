//! Everything that is said about orders goes into their view: one statement for a batch, nothing is read
//! before.

use saga_plugin::{Context, Db, DbResult, Delivery, Effects, Fold, Input, Outcome, Table, Timestamp, Uuid};
use serde::Deserialize;

use crate::{
    DEDUCTED, ORDER_CREATED,
    view::{self, Decision, Known},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    order_id: Uuid,
    product_id: i32,
    order_qty: i32,
    timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    order_id: Uuid,
}

/// A piece of knowledge about an order.
pub(crate) struct News {
    order_id: Uuid,
    known: Known,
}

impl Input for News {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        if delivery.topic() == ORDER_CREATED {
            let order: OrderCreated = delivery.json()?;
            let at = order.timestamp.unwrap_or(delivery.time());
            let known = Known { created: Some((order.product_id, order.order_qty, at)), decided: None };
            return Ok(Self { order_id: order.order_id, known });
        }
        let reply: Reply = delivery.json()?;
        let decision = if delivery.topic() == DEDUCTED { Decision::Confirmed } else { Decision::Cancelled };
        let known = Known { created: None, decided: Some((delivery.time(), decision)) };
        Ok(Self { order_id: reply.order_id, known })
    }
}

pub(crate) struct Watch;

impl Fold for Watch {
    type Input = News;
    /// Only what the batch says: what was known before is merged by the statement.
    type Rows = Table<Uuid, Known>;

    fn load(_: &Db<'_>, _: &[News]) -> DbResult<Table<Uuid, Known>> {
        Ok(Table::default())
    }

    fn decide(known: &mut Table<Uuid, Known>, news: &News, _: &mut Effects<'_>) -> Outcome {
        let before = known.get(&news.order_id).copied().unwrap_or_default();
        known.set(news.order_id, before.and(news.known));
        Outcome::Done
    }

    fn store(db: &Db<'_>, known: &Table<Uuid, Known>) -> DbResult<()> {
        view::store(db, known)
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

    use crate::{DEDUCTED, ORDER_CREATED, REJECTED, define};

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    #[test]
    fn a_batch_of_three_topics_is_one_statement_with_each_order_once() {
        let host = TestHost::default();
        let created = |timestamp: &str| {
            format!(r#"{{"orderId":"{ID}","productId":7,"orderQty":-5{timestamp},"more":[]}}"#)
        };
        let reply = format!(r#"{{"orderId":"{}","reason":"x"}}"#, ID.to_uppercase());
        let batch = [
            record(DEDUCTED, &reply),
            record(ORDER_CREATED, &created(r#","timestamp":"2026-11-22T19:28:00.1234567Z""#)),
            record(REJECTED, &reply),
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
    fn what_is_none_is_held_with_its_reason() {
        for (topic, value, named) in [
            (ORDER_CREATED, "not json", "JSON"),
            (ORDER_CREATED, "{}", "orderId"),
            (ORDER_CREATED, &format!(r#"{{"orderId":"{ID}","productId":"x","orderQty":1}}"#), "productId"),
            (
                ORDER_CREATED,
                &format!(r#"{{"orderId":"{ID}","productId":1,"orderQty":1,"timestamp":"now"}}"#),
                "timestamp",
            ),
            (DEDUCTED, r#"{"orderId":5}"#, "orderId"),
            (REJECTED, "[]", "JSON"),
        ] {
            let host = TestHost::default();
            let outcomes = deliveries(&define(), &host, &[record(topic, value)], Vec::new()).unwrap();
            let [Outcome::Reject(reason)] = &outcomes[..] else { unreachable!("{value} is held") };
            assert!(reason.contains(named), "{value}: {reason}");
            assert!(host.recorded().statements.is_empty());
        }
    }
}
