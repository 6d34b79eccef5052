//! `GET /orders/{orderId}/events`: the history of an order.

use saga_plugin::{Context, Db, DbResult, Input, Problem, Read, Request, Response, Timestamp, Uuid, one};
use serde::Serialize;

use crate::order::End;

const CREATED: &str = "ORDER_CREATED";

/// The order whose history is asked for.
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
    event: &'static str,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(crate) struct OrderEvents;

impl Read for OrderEvents {
    type Query = OfOrder;

    fn answer(db: &Db<'_>, OfOrder(id): &OfOrder) -> DbResult<Response> {
        let found = db.query(
            "SELECT status, created_at, ended_at, reason FROM public.customer_order WHERE order_id = $1",
            &[one(*id)],
        )?;
        let rows: Vec<(String, Timestamp, Option<Timestamp>, Option<String>)> = found.rows()?;
        let Some((status, created_at, ended_at, reason)) = rows.into_iter().next() else {
            return Ok(unknown(id).into());
        };
        let created = Event { event: CREATED, at: created_at, reason: None };
        let ended = End::of(&status).zip(ended_at).map(|(end, at)| Event { event: end.event(), at, reason });
        Ok(Response::json(200, &std::iter::once(created).chain(ended).collect::<Vec<Event>>()))
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
    fn an_event_shows_its_reason_if_it_has_one() {
        let host = TestHost::default().answer([
            many(["CANCELLED".to_owned()]),
            many([Timestamp(NOW_US)]),
            many_or_null([Some(Timestamp(NOW_US + 1_000))]),
            many_or_null([Some("too little".to_owned())]),
        ]);
        let expected = concat!(
            r#"[{"event":"ORDER_CREATED","at":"2026-11-22T19:28:00.123Z"},"#,
            r#"{"event":"ORDER_CANCELLED","at":"2026-11-22T19:28:00.124Z","reason":"too little"}]"#
        );
        assert_eq!(ask(&host, ID).body, expected.as_bytes());
    }

    #[test]
    fn an_order_that_waits_was_only_created() {
        let host = TestHost::default().answer([
            many(["PENDING_CONFIRMATION".to_owned()]),
            many([Timestamp(NOW_US)]),
            many_or_null([None::<Timestamp>]),
            many_or_null([None::<String>]),
        ]);
        assert_eq!(ask(&host, ID).body, br#"[{"event":"ORDER_CREATED","at":"2026-11-22T19:28:00.123Z"}]"#);
    }

    #[test]
    fn what_is_unknown_is_not_found() {
        let host = TestHost::default().answer([
            many(Vec::<String>::new()),
            many(Vec::<Timestamp>::new()),
            many(Vec::<Timestamp>::new()),
            many(Vec::<String>::new()),
        ]);
        assert_eq!(ask(&host, ID).status, 404);
        assert_eq!(ask(&host, "not-an-id").status, 404);
        assert_eq!(host.recorded().statements.len(), 1);
    }
}
