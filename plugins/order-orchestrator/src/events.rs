//! `GET /orders/{orderId}/events`: the history of an order.

use saga_plugin::{Context, Db, DbResult, Input, Problem, Read, Request, Response, Timestamp, Uuid, one};
use serde::Serialize;

/// Whose history.
pub(crate) struct OfOrder(Uuid);

impl Input for OfOrder {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        let id = request.param(0);
        Ok(Self(id.parse().map_err(|_| unknown(id))?))
    }
}

fn unknown(id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

#[derive(Serialize)]
struct Event {
    event: String,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(crate) struct OrderEvents;

impl Read for OrderEvents {
    type Query = OfOrder;

    fn answer(db: &Db<'_>, OfOrder(id): &OfOrder) -> DbResult<Response> {
        let found = db.query(
            "SELECT event, at, reason FROM public.order_event WHERE order_id = $1 ORDER BY number",
            &[one(*id)],
        )?;
        let rows: Vec<(String, Timestamp, Option<String>)> = found.rows()?;
        if rows.is_empty() {
            return Ok(unknown(id).into());
        }
        let events: Vec<Event> = rows.into_iter().map(|(event, at, reason)| Event { event, at, reason }).collect();
        Ok(Response::json(200, &events))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Request, Response, Timestamp,
        dispatch::requests,
        many, many_or_null,
        testing::{NOW_US, TestHost, request},
    };

    use crate::define;

    const ID: &str = "0193A1B2-0000-7000-8000-00000000ABCD";

    fn ask(host: &TestHost, id: &str) -> Response {
        let asked = Request { route: 1, params: vec![id.to_owned()], ..request("") };
        requests(&define(), host, &[asked]).unwrap().remove(0)
    }

    #[test]
    fn events_tell_their_reason_if_they_have_one() {
        let host = TestHost::default().answer([
            many(["ORDER_CREATED".to_owned(), "ORDER_CANCELLED".to_owned()]),
            many([Timestamp(NOW_US), Timestamp(NOW_US + 1_000)]),
            many_or_null([None, Some("too little".to_owned())]),
        ]);
        let expected = concat!(
            r#"[{"event":"ORDER_CREATED","at":"2026-11-22T19:28:00.123Z"},"#,
            r#"{"event":"ORDER_CANCELLED","at":"2026-11-22T19:28:00.124Z","reason":"too little"}]"#
        );
        assert_eq!(ask(&host, ID).body, expected.as_bytes());
    }

    #[test]
    fn what_is_unknown_is_not_found() {
        let host = TestHost::default().answer([
            many(Vec::<String>::new()),
            many(Vec::<Timestamp>::new()),
            many(Vec::<String>::new()),
        ]);
        assert_eq!(ask(&host, ID).status, 404);
        assert_eq!(ask(&host, "not-an-id").status, 404);
        assert_eq!(host.recorded().statements.len(), 1);
    }
}
