//! Stores the text of each notification as it is, under the order that it names.

use saga_plugin::{
    Added, Context, Db, DbResult, Delivery, Effects, Fold, Input, Outcome, Timestamp, Uuid, many, one,
};

/// How the text of a notification starts.
const KINDS: [&str; 2] = ["OrderConfirmed:", "OrderCancelled:"];

/// A notification to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    order_id: Uuid,
    message: String,
    received_at: Timestamp,
}

impl Input for Notification {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, context: &Context<'_>) -> Result<Self, Outcome> {
        let message = delivery.text()?;
        let order_id = KINDS.iter().find_map(|kind| message.strip_prefix(kind)?.parse().ok());
        let order_id = order_id.ok_or_else(|| {
            Outcome::reject("the value is neither OrderConfirmed:<orderId> nor OrderCancelled:<orderId>")
        })?;
        Ok(Self { order_id, message: message.to_owned(), received_at: context.now() })
    }
}

pub(crate) struct StoreNotifications;

impl Fold for StoreNotifications {
    type Input = Notification;
    type Rows = Added<Notification>;

    fn load(_: &Db<'_>, _: &[Notification]) -> DbResult<Added<Notification>> {
        Ok(Added::default())
    }

    fn decide(rows: &mut Added<Notification>, notification: &Notification, _: &mut Effects<'_>) -> Outcome {
        rows.add(notification.clone());
        Outcome::Done
    }

    fn store(db: &Db<'_>, rows: &Added<Notification>) -> DbResult<()> {
        let at = rows.iter().next().map(|notification| notification.received_at).unwrap_or_default();
        db.execute(
            "INSERT INTO public.order_notification (order_id, message, received_at)
             SELECT v.order_id, v.message, $3::timestamptz
               FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY v (order_id, message, n) ORDER BY v.n",
            &[
                many(rows.iter().map(|notification| notification.order_id)),
                many(rows.iter().map(|notification| notification.message.clone())),
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
        Outcome,
        dispatch::deliveries,
        testing::{TestHost, record},
    };

    use crate::{NOTIFICATIONS, define};

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    #[test]
    fn only_the_two_texts_are_stored() {
        let upper = ID.to_uppercase();
        for (text, stored) in [
            (format!("OrderConfirmed:{ID}"), true),
            (format!("OrderCancelled:{upper}"), true),
            (format!("OrderShipped:{ID}"), false),
            (format!("OrderConfirmed: {ID}"), false),
            (format!("OrderConfirmed:{ID} "), false),
            (format!("\"OrderConfirmed:{ID}\""), false),
            ("OrderConfirmed:".to_owned(), false),
            ("Hello".to_owned(), false),
            (String::new(), false),
        ] {
            let host = TestHost::default();
            let outcomes = deliveries(&define(), &host, &[record(NOTIFICATIONS, &text)], Vec::new()).unwrap();
            assert_eq!(matches!(outcomes[..], [Outcome::Done]), stored, "{text}");
            assert_eq!(matches!(outcomes[..], [Outcome::Reject(_)]), !stored, "{text}");
            assert_eq!(host.recorded().statements.len(), usize::from(stored), "{text}");
        }
    }
}
