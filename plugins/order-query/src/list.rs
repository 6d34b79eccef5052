//! `GET /orders`, newest first, and `GET /orders/{orderId}`.

use saga_plugin::{
    Context, Db, DbResult, Input, Page, Problem, Read, Request, Response, Timestamp, Uuid, many, one,
};
use serde::Serialize;

const STATUSES: [&str; 3] = ["PENDING_CONFIRMATION", "CONFIRMED", "CANCELLED"];
/// Later than every order: the end of the year 9999.
const LATEST: Timestamp = Timestamp(253_402_300_799_999_999);
/// Time and id of an order: the list is sorted by them.
const KEY_BYTES: usize = 8 + 16;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: Uuid,
    product_id: i32,
    order_qty: i32,
    order_status: String,
    last_updated_at: Timestamp,
    #[serde(skip)]
    created_at: Timestamp,
}

type OrderRow = (Uuid, i32, i32, String, Timestamp, Timestamp);

impl From<OrderRow> for Order {
    fn from((order_id, product_id, order_qty, order_status, created_at, last_updated_at): OrderRow) -> Self {
        Self { order_id, product_id, order_qty, order_status, last_updated_at, created_at }
    }
}

/// A page of orders, of one status or of all.
pub(crate) struct Listed {
    page: Page<KEY_BYTES>,
    status: Option<&'static str>,
}

impl Input for Listed {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        let status = match request.query("status")? {
            None => None,
            Some(text) => {
                let known = STATUSES.into_iter().find(|status| *status == text);
                Some(known.ok_or_else(|| Problem::parameter("status", &STATUSES.join(", ")))?)
            }
        };
        Ok(Self { page: Page::of(request)?, status })
    }
}

pub(crate) struct Orders;

impl Read for Orders {
    type Query = Listed;

    fn answer(db: &Db<'_>, Listed { page, status }: &Listed) -> DbResult<Response> {
        let (time, id) = page.after.map_or((LATEST, Uuid(u128::MAX)), position);
        let statuses = status.as_ref().map_or(&STATUSES[..], std::slice::from_ref);
        let found = db.query(
            "SELECT o.order_id, o.product_id, o.order_qty, o.status, o.created_at,
                    greatest(o.created_at, o.decided_at)
               FROM unnest($1::text[]) s (status)
              CROSS JOIN LATERAL (
                    SELECT * FROM public.order_view v
                     WHERE v.status = s.status AND (v.created_at, v.order_id) < ($2::timestamptz, $3::uuid)
                     ORDER BY v.created_at DESC, v.order_id DESC LIMIT $4) o
              ORDER BY o.created_at DESC, o.order_id DESC LIMIT $4",
            &[
                many(statuses.iter().map(|status| (*status).to_owned())),
                one(time),
                one(id),
                one(page.fetch()),
            ],
        )?;
        let orders: Vec<Order> = found.rows::<OrderRow>()?.into_iter().map(Into::into).collect();
        let kept: Vec<_> = status.iter().map(|status| ("status", *status)).collect();
        Ok(page.answer("/orders", &kept, orders, key))
    }
}

fn key(order: &Order) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&order.created_at.0.to_be_bytes());
    key[8..].copy_from_slice(&order.order_id.0.to_be_bytes());
    key
}

fn position(key: [u8; KEY_BYTES]) -> (Timestamp, Uuid) {
    let (mut time, mut id) = ([0; 8], [0; 16]);
    time.copy_from_slice(&key[..8]);
    id.copy_from_slice(&key[8..]);
    (Timestamp(i64::from_be_bytes(time).min(LATEST.0)), Uuid(u128::from_be_bytes(id)))
}

/// The order that is asked for.
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

pub(crate) struct OneOrder;

impl Read for OneOrder {
    type Query = OfOrder;

    fn answer(db: &Db<'_>, OfOrder(id): &OfOrder) -> DbResult<Response> {
        let found = db.query(
            "SELECT order_id, product_id, order_qty, status, created_at, greatest(created_at, decided_at)
               FROM public.order_view WHERE order_id = $1 AND created_at IS NOT NULL",
            &[one(*id)],
        )?;
        Ok(match found.rows::<OrderRow>()?.pop() {
            Some(row) => Response::json(200, &Order::from(row)),
            None => unknown(id).into(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Request, Response, Timestamp, Uuid,
        bindings::saga::plugin::postgres::Param,
        dispatch::requests,
        many,
        testing::{NOW_US, TestHost, request},
    };

    use super::{Order, key, position};
    use crate::define;

    fn ask(host: &TestHost, route: u32, param: &str, query: &[(&str, &str)]) -> Response {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let params = if param.is_empty() { Vec::new() } else { vec![param.to_owned()] };
        requests(&define(), host, &[Request { route, params, query, ..request("") }]).unwrap().remove(0)
    }

    fn text(response: &Response) -> String {
        String::from_utf8(response.body.clone()).unwrap()
    }

    fn rows(count: u32) -> [Param; 6] {
        let each = |n: u32| Uuid(u128::from(n));
        [
            many((0..count).map(each)),
            many((0..count).map(|_| 7)),
            many((0..count).map(|_| 2)),
            many((0..count).map(|_| "CONFIRMED".to_owned())),
            many((0..count).map(|_| Timestamp(NOW_US))),
            many((0..count).map(|_| Timestamp(NOW_US + 1_000))),
        ]
    }

    #[test]
    fn an_order_has_the_form_of_the_contract() {
        let expected = concat!(
            r#"{"orderId":"00000000-0000-0000-0000-000000000000","productId":7,"orderQty":2,"#,
            r#""orderStatus":"CONFIRMED","lastUpdatedAt":"2026-11-22T19:28:00.124Z"}"#
        );
        let host = TestHost::default().answer(rows(1)).answer(rows(1)).answer(rows(0));
        let id = Uuid(0).to_string();
        assert_eq!(text(&ask(&host, 1, &id, &[])), expected);
        assert_eq!(text(&ask(&host, 0, "", &[])), format!("[{expected}]"));
        assert_eq!(ask(&host, 1, &id.to_uppercase(), &[]).status, 404);
        assert_eq!(ask(&host, 1, "not-an-id", &[]).status, 404);
    }

    #[test]
    fn the_filter_stays_on_in_the_next_page() {
        let host = TestHost::default().answer(rows(3));
        let response = ask(&host, 0, "", &[("limit", "2"), ("status", "CONFIRMED")]);
        let link = response.headers.iter().find(|header| header.name == "link").unwrap();
        let link = String::from_utf8(link.value.clone()).unwrap();
        assert!(
            link.starts_with("</orders?limit=2&cursor=")
                && link.ends_with("&status=CONFIRMED>; rel=\"next\""),
            "{link}"
        );
    }

    #[test]
    fn invalid_input_is_refused() {
        let host = TestHost::default();
        for (name, value) in
            [("status", "DONE"), ("status", ""), ("limit", "0"), ("cursor", "abc"), ("cursor", "\0")]
        {
            let response = ask(&host, 0, "", &[(name, value)]);
            assert!(
                response.status == 400 && text(&response).contains(name),
                "{name}={value}: {}",
                text(&response)
            );
        }
        assert!(host.recorded().statements.is_empty());
    }

    #[test]
    fn a_position_comes_back() {
        let order = Order::from((Uuid(1 << 100), 7, 2, String::new(), Timestamp(NOW_US), Timestamp(0)));
        assert_eq!(position(key(&order)), (Timestamp(NOW_US), Uuid(1 << 100)));
    }
}
