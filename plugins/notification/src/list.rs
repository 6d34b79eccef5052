//! `GET /notifications?orderId=`: the notifications of an order, the oldest first.

use saga_plugin::{Context, Db, DbResult, Input, Problem, Read, Request, Response, Timestamp, Uuid, one};
use serde::Serialize;

/// The most notifications to show: an order has one, but foreign services may repeat theirs.
const SHOWN_MAX: i64 = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    order_id: Uuid,
    message: String,
    received_at: Timestamp,
}

/// The order whose notifications are asked for.
pub(crate) struct OfOrder(Uuid);

impl Input for OfOrder {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        let id = request.query("orderId")?.and_then(|id| id.parse().ok());
        Ok(Self(id.ok_or_else(|| Problem::parameter("orderId", "a hyphenated UUID"))?))
    }
}

pub(crate) struct Notifications;

impl Read for Notifications {
    type Query = OfOrder;

    fn answer(db: &Db<'_>, OfOrder(id): &OfOrder) -> DbResult<Response> {
        let found = db.query(
            "SELECT order_id, message, received_at FROM public.order_notification
              WHERE order_id = $1 ORDER BY id LIMIT $2",
            &[one(*id), one(SHOWN_MAX)],
        )?;
        let rows: Vec<(Uuid, String, Timestamp)> = found.rows()?;
        let shown = |(order_id, message, received_at)| Notification { order_id, message, received_at };
        Ok(Response::json(200, &rows.into_iter().map(shown).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Request, Response, Timestamp, Uuid,
        dispatch::requests,
        many,
        testing::{NOW_US, TestHost, request},
    };

    use crate::define;

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    fn ask(host: &TestHost, query: &[(&str, &str)]) -> Response {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        requests(&define(), host, &[Request { query, ..request("") }]).unwrap().remove(0)
    }

    #[test]
    fn notifications_have_the_form_of_the_contract() {
        let id: Uuid = ID.parse().unwrap();
        let message = format!("OrderConfirmed:{ID}");
        let host = TestHost::default()
            .answer([many([id]), many([message.clone()]), many([Timestamp(NOW_US)])])
            .answer([many::<Uuid>([]), many::<String>([]), many::<Timestamp>([])]);
        let expected = format!(
            r#"[{{"orderId":"{ID}","message":"{message}","receivedAt":"2026-11-22T19:28:00.123Z"}}]"#
        );
        assert_eq!(ask(&host, &[("orderId", &ID.to_uppercase())]).body, expected.into_bytes());
        assert_eq!(ask(&host, &[("orderId", ID)]).body, b"[]");
    }

    #[test]
    fn an_order_id_is_required() {
        for query in [&[][..], &[("orderId", "abc")], &[("orderId", "")], &[("orderid", ID)]] {
            let response = ask(&TestHost::default(), query);
            assert!(
                response.status == 400 && String::from_utf8_lossy(&response.body).contains("orderId"),
                "{query:?}"
            );
        }
    }
}
