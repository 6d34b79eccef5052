//! `POST /orders`: stores the order and starts its saga, which publishes order-created, in one transaction. A
//! repeat with the same `orderId` gets the same answer and creates nothing.

use std::collections::{BTreeMap, BTreeSet};

use saga_plugin::{
    Claims, Context, Db, DbResult, Effects, Fold, Input, Positive, Problem, Request, Response, Table,
    Timestamp, Uuid, keys, many, one,
};
use serde::Deserialize;

use crate::{order::Order, saga::OrderSaga};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewOrder {
    order_id: Option<Uuid>,
    product_id: Positive,
    order_qty: Positive,
}

impl Input for Order {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, context: &Context<'_>) -> Result<Self, Response> {
        let new: NewOrder = request.json()?;
        Ok(Self {
            order_id: new.order_id.unwrap_or_else(|| context.new_uuid()),
            product_id: new.product_id.get(),
            order_qty: new.order_qty.get(),
            timestamp: context.now(),
            reason: None,
        })
    }
}

pub(crate) struct PlaceOrder;

impl Fold for PlaceOrder {
    type Input = Order;
    /// The ids that this batch inserted, and each order of the batch as it is in the database.
    type Rows = (Claims<Uuid>, Table<Uuid, Order>);

    /// Inserts the orders, of several with one id the first. Reads those that were there before.
    fn load(db: &Db<'_>, orders: &[Order]) -> DbResult<Self::Rows> {
        let mut placed: BTreeMap<Uuid, Order> = BTreeMap::new();
        for order in orders {
            placed.entry(order.order_id).or_insert_with(|| order.clone());
        }
        let fresh = insert(db, &placed)?;
        if fresh.len() < placed.len() {
            let known = |id: &Uuid| !fresh.contains(id);
            let known = read(db, keys(orders, |order| order.order_id).into_iter().filter(known))?;
            placed.extend(known.into_iter().map(|order| (order.order_id, order)));
        }
        Ok((fresh.into_iter().collect(), placed.into_iter().collect()))
    }

    fn decide((fresh, placed): &mut Self::Rows, order: &Order, effects: &mut Effects<'_>) -> Response {
        let id = order.order_id;
        let Some(placed) = placed.get(&id) else {
            return Problem::new(503, "the order is being placed just now; repeat the request").into();
        };
        if (placed.product_id, placed.order_qty) != (order.product_id, order.order_qty) {
            return Problem::new(409, format!("order {id} was placed with another product or quantity"))
                .into();
        }
        if fresh.take(&id) {
            effects.start::<OrderSaga>(id, placed);
        }
        Response::created(format_args!("/orders/{id}"), placed).with_saga::<OrderSaga>(id)
    }

    /// Nothing to do: `load` has inserted the orders.
    fn store(_: &Db<'_>, _: &Self::Rows) -> DbResult<()> {
        Ok(())
    }
}

/// Inserts orders and returns the ids that are new, ascending.
fn insert(db: &Db<'_>, orders: &BTreeMap<Uuid, Order>) -> DbResult<BTreeSet<Uuid>> {
    let now = orders.values().next().map(|order| order.timestamp).unwrap_or_default();
    let found = db.query(
        "INSERT INTO public.customer_order (order_id, product_id, order_qty, status, created_at)
         SELECT v.order_id, v.product_id, v.order_qty, 'PENDING_CONFIRMATION', $4::timestamptz
           FROM unnest($1::uuid[], $2::int[], $3::int[]) v (order_id, product_id, order_qty)
          ORDER BY v.order_id
         ON CONFLICT DO NOTHING RETURNING order_id",
        &[
            many(orders.keys().copied()),
            many(orders.values().map(|order| order.product_id)),
            many(orders.values().map(|order| order.order_qty)),
            one(now),
        ],
    )?;
    Ok(found.rows()?.into_iter().map(|(id,)| id).collect())
}

fn read(db: &Db<'_>, ids: impl Iterator<Item = Uuid>) -> DbResult<Vec<Order>> {
    let found = db.query(
        "SELECT order_id, product_id, order_qty, created_at FROM public.customer_order
          WHERE order_id = ANY ($1::uuid[])",
        &[many(ids)],
    )?;
    let rows: Vec<(Uuid, i32, i32, Timestamp)> = found.rows()?;
    let order = |(order_id, product_id, order_qty, timestamp)| Order {
        order_id,
        product_id,
        order_qty,
        timestamp,
        reason: None,
    };
    Ok(rows.into_iter().map(order).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Response, Timestamp, Uuid,
        dispatch::requests,
        many,
        testing::{NOW_US, Recorded, TestHost, request},
    };

    use crate::{ORDER_CREATED, define};

    const ID: &str = "0193a1b2-0000-7000-8000-00000000abcd";

    fn run(host: TestHost, bodies: &[&str]) -> (Vec<Response>, Recorded) {
        let batch: Vec<_> = bodies.iter().map(|body| request(body)).collect();
        let answers = requests(&define(), &host, &batch).unwrap();
        (answers, host.recorded())
    }

    fn text(response: &Response) -> String {
        String::from_utf8(response.body.clone()).unwrap()
    }

    fn statuses(answers: &[Response]) -> Vec<u16> {
        answers.iter().map(|answer| answer.status).collect()
    }

    fn id() -> Uuid {
        ID.parse().unwrap()
    }

    #[test]
    fn a_new_order_starts_its_saga() {
        let made = Uuid(0x0193_a1b2_c3d4_7000_8000 << 48 | 1);
        let host = TestHost::default().answer([many([made])]);
        let (answers, asked) = run(host, &[r#"{"productId":7,"orderQty":2}"#]);
        let body = format!(
            r#"{{"orderId":"{made}","productId":7,"orderQty":2,"timestamp":"2026-11-22T19:28:00.123Z"}}"#
        );
        assert_eq!((answers[0].status, text(&answers[0])), (201, body.clone()));
        let location = answers[0].headers.iter().find(|header| header.name == "location").unwrap();
        assert_eq!(location.value, format!("/orders/{made}").into_bytes());
        let saga = answers[0].saga.as_ref().unwrap();
        assert_eq!((saga.saga_type.as_str(), saga.key.clone()), ("order", made.to_string()));
        assert_eq!((asked.topics(), asked.values()), (vec![ORDER_CREATED], vec![body.clone()]));
        assert_eq!(asked.messages[0].key.as_deref(), Some(made.to_string().as_bytes()));
        let [started] = &asked.started[..] else { unreachable!("one saga") };
        assert_eq!((started.state.as_str(), started.deadline), ("SAGA_STARTED", NOW_US + 30_000_000));
        assert_eq!((&started.data, started.key.clone()), (&body, made.to_string()));
        assert_eq!(asked.statements.len(), 1);
    }

    #[test]
    fn one_id_twice_in_a_batch_is_one_order() {
        let body = |qty| format!(r#"{{"orderId":"{}","productId":7,"orderQty":{qty}}}"#, ID.to_uppercase());
        let host = TestHost::default().answer([many([id()])]);
        let (answers, asked) = run(host, &[&body(2), &body(2), &body(3)]);
        assert_eq!(statuses(&answers), [201, 201, 409]);
        assert_eq!(answers[0].body, answers[1].body);
        assert_eq!((asked.started.len(), asked.messages.len(), asked.statements.len()), (1, 1, 1));
    }

    #[test]
    fn an_order_that_was_placed_before_answers_the_same() {
        let body = |qty| format!(r#"{{"orderId":"{ID}","productId":7,"orderQty":{qty}}}"#);
        let placed = [many([id()]), many([7]), many([2]), many([Timestamp(NOW_US - 5_000_000)])];
        let host = TestHost::default().answer([many::<Uuid>([])]).answer(placed);
        let (answers, asked) = run(host, &[&body(2), &body(3)]);
        assert_eq!(statuses(&answers), [201, 409]);
        assert!(text(&answers[0]).ends_with(r#""timestamp":"2026-11-22T19:27:55.123Z"}"#));
        assert!(answers[0].saga.is_some() && answers[1].saga.is_none());
        assert_eq!((asked.started.len(), asked.messages.len(), asked.statements.len()), (0, 0, 2));
    }

    #[test]
    fn invalid_input_is_refused_before_any_statement() {
        let mut cases = vec![
            (r#"{"productId":7}"#.to_owned(), "orderQty"),
            (r#"{"orderQty":1}"#.to_owned(), "productId"),
        ];
        for number in [
            "0",
            "-1",
            "2147483648",
            "9223372036854775808",
            "1e40",
            "1.5",
            "-0",
            "\"1\"",
            "true",
            "null",
            "[1]",
        ] {
            cases.push((format!(r#"{{"productId":7,"orderQty":{number}}}"#), "orderQty"));
            cases.push((format!(r#"{{"productId":{number},"orderQty":1}}"#), "productId"));
        }
        for id in [r#""""#, r#""abc""#, "5", "{}", r#""\u0000""#, r#""0193a1b2-0000-7000-8000-00000000abcg""#]
        {
            cases.push((format!(r#"{{"orderId":{id},"productId":7,"orderQty":1}}"#), "orderId"));
        }
        for body in ["", "{", "nothing", "{\"a\":}", "null", "7", "[]", "\"text\"", "[null,7,1]"] {
            cases.push((body.to_owned(), "JSON"));
        }
        let bodies: Vec<&str> = cases.iter().map(|(body, _)| body.as_str()).collect();
        let (answers, asked) = run(TestHost::default(), &bodies);
        for (answer, (body, name)) in answers.iter().zip(&cases) {
            assert!(answer.status == 400 && text(answer).contains(name), "{body}: {}", text(answer));
        }
        assert!(asked.statements.is_empty() && asked.messages.is_empty());
    }
}
