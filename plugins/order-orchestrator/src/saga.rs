//! The order saga: one step, which inventory answers. A rejection cancels the order. A missing reply does
//! not: the stock may be deducted.

use saga_plugin::{
    Added, Context, Db, DbResult, Delivery, Effects, Ending, Finished, Input, OnDeadline, Outcome, Saga,
    Step, Timestamp, Uuid, Verdict, many, many_or_null, one,
};
use serde::Deserialize;

use crate::{
    DEDUCTED, NOTIFICATIONS, ORDER_CREATED,
    order::{End, Order},
};

const STARTED: &str = "SAGA_STARTED";
const DEADLINE_S: u64 = 30;

/// A reply of inventory.
pub(crate) enum Reply {
    Deducted,
    Rejected(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplyValue {
    /// Only checked: the host has found the saga by it.
    #[serde(rename = "orderId")]
    _order_id: Uuid,
    reason: Option<String>,
}

impl Input for Reply {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        let value: ReplyValue = delivery.json()?;
        let reason = value.reason.filter(|reason| !reason.is_empty());
        Ok(if delivery.topic() == DEDUCTED {
            Self::Deducted
        } else {
            Self::Rejected(reason.unwrap_or_else(|| "inventory rejected the deduction".to_owned()))
        })
    }
}

/// An order that ended in this batch.
pub(crate) struct Ended {
    order_id: Uuid,
    end: End,
    at: Timestamp,
    reason: Option<String>,
}

pub(crate) struct OrderSaga;

impl Saga for OrderSaga {
    const TYPE: &'static str = "order";
    type Data = Order;
    type Reply = Reply;
    type Rows = Added<Ended>;

    fn steps(context: &Context<'_>) -> Vec<Step<Order>> {
        let send = |order: &Order, effects: &mut Effects<'_>| {
            effects.publish(ORDER_CREATED, "order-created", order.order_id, order);
        };
        let deadline = context.config_seconds("saga_deadline_s", DEADLINE_S);
        vec![Step::new(STARTED, send).deadline(deadline).on_deadline(OnDeadline::Wait)]
    }

    fn judge(order: &mut Order, reply: &Reply) -> Verdict {
        match reply {
            Reply::Deducted => Verdict::Completed(STARTED),
            Reply::Rejected(reason) => {
                order.reason = Some(reason.clone());
                Verdict::Failed(STARTED)
            }
        }
    }

    fn finished(
        order: &Order,
        ending: Ending,
        rows: &mut Added<Ended>,
        effects: &mut Effects<'_>,
    ) -> Finished {
        let order_id = order.order_id;
        let end = if ending == Ending::Completed { End::Confirmed } else { End::Cancelled };
        rows.add(Ended { order_id, end, at: effects.now(), reason: order.reason.clone() });
        effects.publish_text(NOTIFICATIONS, "order-notification", order_id, end.notification(order_id));
        Finished { event: end.event(), answer: Some(format!(r#"{{"orderStatus":"{}"}}"#, end.status())) }
    }

    /// No other unit updates these orders: their sagas are locked.
    fn store(db: &Db<'_>, rows: &Added<Ended>) -> DbResult<()> {
        let mut ended: Vec<&Ended> = rows.iter().collect();
        ended.sort_unstable_by_key(|row| row.order_id);
        let at = ended.first().map(|row| row.at).unwrap_or_default();
        db.execute(
            "UPDATE public.customer_order o 
                SET status = e.status, reason = e.reason, ended_at = $4::timestamptz
               FROM unnest($1::uuid[], $2::text[], $3::text[]) e (order_id, status, reason)
              WHERE o.order_id = e.order_id",
            &[
                many(ended.iter().map(|row| row.order_id)),
                many(ended.iter().map(|row| row.end.status().to_owned())),
                many_or_null(ended.iter().map(|row| row.reason.clone())),
                one(at),
            ],
        )?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Delivery, Ending, Outcome, Timestamp, Uuid,
        bindings::saga::plugin::sagas::{self, Status, Transition},
        dispatch::deliveries,
        testing::{NOW_US, Recorded, TestHost, deadline, live, record},
    };

    use super::{OrderSaga, STARTED};
    use crate::{DEDUCTED, NOTIFICATIONS, REJECTED, define, order::Order};

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    fn saga() -> sagas::Saga {
        let (order_id, timestamp) = (ID.parse::<Uuid>().unwrap(), Timestamp(NOW_US));
        live::<OrderSaga>(
            ID,
            STARTED,
            &Order { order_id, product_id: 7, order_qty: 2, timestamp, reason: None },
        )
    }

    fn reply(topic: &str, value: &str) -> Delivery {
        Delivery { saga: Some(0), ..record(topic, value) }
    }

    fn deducted() -> Delivery {
        reply(DEDUCTED, &format!(r#"{{"orderId":"{}","extra":true}}"#, ID.to_uppercase()))
    }

    fn rejected() -> Delivery {
        reply(REJECTED, &format!(r#"{{"orderId":"{ID}","reason":"too little"}}"#))
    }

    fn run(batch: &[Delivery], sagas: Vec<sagas::Saga>) -> (Vec<Outcome>, Recorded) {
        let host = TestHost::default();
        let outcomes = deliveries(&define(), &host, batch, sagas).unwrap();
        (outcomes, host.recorded())
    }

    fn ending(transition: &Transition) -> (Ending, &str) {
        let Status::Finished(finish) = &transition.status else { unreachable!("a saga that goes on") };
        (finish.ending, finish.answer.as_deref().unwrap_or_default())
    }

    #[test]
    fn a_deduction_confirms() {
        let (outcomes, asked) = run(&[deducted()], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Done]));
        assert_eq!(asked.values(), [format!("OrderConfirmed:{ID}")]);
        assert_eq!(asked.topics(), [NOTIFICATIONS]);
        let [transition] = &asked.transitions[..] else { unreachable!("one transition") };
        assert_eq!(
            (transition.event.as_str(), transition.state.as_str()),
            ("ORDER_CONFIRMED", "SAGA_COMPLETE")
        );
        assert_eq!((transition.expected_revision, &transition.data), (1, &None));
        assert_eq!(ending(transition), (Ending::Completed, r#"{"orderStatus":"CONFIRMED"}"#));
        assert_eq!(asked.statements.len(), 1);
    }

    #[test]
    fn a_rejection_compensates_and_keeps_its_reason() {
        let (_, asked) = run(&[rejected()], vec![saga()]);
        assert_eq!(asked.values(), [format!("OrderCancelled:{ID}")]);
        let transition = &asked.transitions[0];
        assert_eq!(transition.event, "ORDER_CANCELLED");
        assert!(transition.data.as_ref().unwrap().ends_with(r#","reason":"too little"}"#));
        assert_eq!(ending(transition), (Ending::Compensated, r#"{"orderStatus":"CANCELLED"}"#));
        assert!(format!("{:?}", asked.statements[0].1).contains("too little"));
    }

    #[test]
    fn second_and_contradicting_and_unknown_replies_are_ignored() {
        let (outcomes, asked) = run(&[rejected(), rejected(), deducted()], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Ignored(_), Outcome::Ignored(_)]));
        assert_eq!((asked.messages.len(), asked.transitions.len()), (1, 1));

        let unknown = [Delivery { saga: None, ..deducted() }, Delivery { saga: None, ..rejected() }];
        let (outcomes, asked) = run(&unknown, Vec::new());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Ignored(_))));
        assert_eq!((asked.messages.len(), asked.statements.len()), (0, 0));
    }

    #[test]
    fn malformed_replies_are_rejected() {
        for value in ["oops", "[]", "{}", r#"{"orderId":5}"#, r#"{"orderId":"a"}"#, ""] {
            let (outcomes, asked) = run(&[reply(DEDUCTED, value)], vec![saga()]);
            assert!(matches!(outcomes[..], [Outcome::Reject(_)]), "{value}");
            assert!(asked.messages.is_empty(), "{value}");
        }
    }

    #[test]
    fn a_deadline_changes_nothing_and_a_late_reply_still_counts() {
        let (outcomes, asked) = run(&[deadline::<OrderSaga>(ID, 1)], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Done]));
        assert!(asked.transitions.is_empty() && asked.messages.is_empty());

        let (outcomes, asked) = run(&[deadline::<OrderSaga>(ID, 1), deducted()], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Done]));
        let [ended] = &asked.transitions[..] else { unreachable!("one transition") };
        assert_eq!(ended.expected_revision, 1);
        assert_eq!(asked.values(), [format!("OrderConfirmed:{ID}")]);
    }

    #[test]
    fn a_deadline_that_was_overtaken_is_ignored() {
        let (outcomes, asked) = run(&[deducted(), deadline::<OrderSaga>(ID, 1)], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Ignored(_)]));
        assert_eq!(asked.transitions.len(), 1);
        let (outcomes, _) = run(&[deadline::<OrderSaga>(ID, 7)], vec![saga()]);
        assert!(matches!(outcomes[..], [Outcome::Ignored(_)]));
    }

    #[test]
    fn a_state_of_another_version_is_rejected() {
        let other = sagas::Saga { state: "SAGA_PAYING".to_owned(), ..saga() };
        let (outcomes, _) = run(&[deducted()], vec![other]);
        assert!(matches!(outcomes[..], [Outcome::Reject(_)]));
    }
}
