//! `POST /stocks`: creates a product, with the caller's number or the next free one.

use saga_plugin::{
    Context, Db, DbError, DbResult, Effects, Fold, Input, Positive, Problem, Request, Response, Table, many,
};
use serde::Deserialize;

use crate::{STOCK_CREATED, stock::StockValue};

/// How often to draw numbers until enough are free. Each draw takes twice as many as the one before.
const DRAWS_MAX: u32 = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    qty: Positive,
    product_id: Option<Positive>,
}

/// A product to create, and its place in the batch.
pub(crate) struct NewStock {
    place: u32,
    product: Option<i32>,
    qty: i32,
}

impl Input for NewStock {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, context: &Context<'_>) -> Result<Self, Response> {
        let wanted: Wanted = request.json()?;
        Ok(Self {
            place: context.place(),
            product: wanted.product_id.map(Positive::get),
            qty: wanted.qty.get(),
        })
    }
}

pub(crate) struct CreateStock;

impl Fold for CreateStock {
    type Input = NewStock;
    /// The number of each input, by its place in the batch; none where the caller's number was taken.
    type Rows = Table<u32, i32>;

    fn load(db: &Db<'_>, inputs: &[NewStock]) -> DbResult<Table<u32, i32>> {
        let (own, next): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.product.is_some());
        let mut numbers = insert_own(db, &own)?;
        let mut waiting = next;
        for draw in 0..DRAWS_MAX {
            if waiting.is_empty() {
                return Ok(numbers.into_iter().collect());
            }
            let drawn = if draw == 0 { waiting.len() } else { waiting.len() << draw };
            let found = insert_next(db, &waiting, drawn)?;
            waiting.retain(|input| !found.iter().any(|(place, _)| *place == input.place));
            numbers.extend(found);
        }
        Err(DbError::unexpected("no free product number was found"))
    }

    fn decide(numbers: &mut Table<u32, i32>, input: &NewStock, effects: &mut Effects<'_>) -> Response {
        match (numbers.get(&input.place), input.product) {
            (Some(&product_id), _) => {
                let value = StockValue { product_id, current_qty: input.qty };
                effects.publish(STOCK_CREATED, "stock-created", product_id, &value);
                Response::created(format_args!("/stocks/{product_id}"), &value)
            }
            (None, product) => {
                Problem::new(409, format!("product {} exists", product.unwrap_or_default())).into()
            }
        }
    }

    /// Nothing to do: `load` has inserted the products.
    fn store(_: &Db<'_>, _: &Table<u32, i32>) -> DbResult<()> {
        Ok(())
    }
}

/// Creates products with the callers' numbers; of several with one number, the first of the batch.
fn insert_own(db: &Db<'_>, inputs: &[&NewStock]) -> DbResult<Vec<(u32, i32)>> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let found = db.query(
        "WITH wanted AS (
             SELECT DISTINCT ON (v.product_id) v.product_id, v.place, v.qty
               FROM unnest($1::int[], $2::int[], $3::int[]) v (product_id, place, qty)
              ORDER BY v.product_id, v.place),
         made AS (
             INSERT INTO public.stock (product_id, current_qty)
             SELECT product_id, qty FROM wanted ORDER BY product_id
             ON CONFLICT DO NOTHING RETURNING product_id)
         SELECT w.place, w.product_id FROM wanted w JOIN made m ON m.product_id = w.product_id",
        &[
            many(inputs.iter().filter_map(|input| input.product)),
            many(places(inputs)),
            many(quantities(inputs)),
        ],
    )?;
    numbers(found.rows()?)
}

/// Creates products with the next numbers. Some of the drawn numbers may be taken, so it may create
/// fewer than the inputs ask for.
fn insert_next(db: &Db<'_>, inputs: &[&NewStock], drawn: usize) -> DbResult<Vec<(u32, i32)>> {
    let found = db.query(
        "WITH drawn AS MATERIALIZED (
             SELECT nextval('public.stock_product_number')::int AS product_id
               FROM generate_series(1, $3::int)),
         free AS (
             SELECT d.product_id, row_number() OVER (ORDER BY d.product_id) AS n FROM drawn d
              WHERE NOT EXISTS (SELECT FROM public.stock s WHERE s.product_id = d.product_id)),
         wanted AS (
             SELECT f.product_id, v.place, v.qty
               FROM unnest($1::int[], $2::int[]) WITH ORDINALITY v (place, qty, n) JOIN free f ON f.n = v.n),
         made AS (
             INSERT INTO public.stock (product_id, current_qty)
             SELECT product_id, qty FROM wanted ORDER BY product_id
             ON CONFLICT DO NOTHING RETURNING product_id)
         SELECT w.place, w.product_id FROM wanted w JOIN made m ON m.product_id = w.product_id",
        &[
            many(places(inputs)),
            many(quantities(inputs)),
            saga_plugin::one(i32::try_from(drawn).unwrap_or(i32::MAX)),
        ],
    )?;
    numbers(found.rows()?)
}

fn places(inputs: &[&NewStock]) -> impl Iterator<Item = i32> {
    inputs.iter().map(|input| i32::try_from(input.place).unwrap_or(i32::MAX))
}

fn quantities(inputs: &[&NewStock]) -> impl Iterator<Item = i32> {
    inputs.iter().map(|input| input.qty)
}

fn numbers(rows: Vec<(i32, i32)>) -> DbResult<Vec<(u32, i32)>> {
    let place = |place| u32::try_from(place).map_err(|_| DbError::unexpected("a place below 0"));
    rows.into_iter().map(|(at, number)| Ok((place(at)?, number))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Request, Response,
        dispatch::requests,
        many,
        testing::{TestHost, request},
    };

    use crate::define;

    fn text(response: &Response) -> String {
        String::from_utf8(response.body.clone()).unwrap()
    }

    #[test]
    fn own_numbers_and_next_ones() {
        let host = TestHost::default().answer([many([0]), many([501])]).answer([many([2]), many([7])]);
        let host = host.answer([many([3]), many([9])]);
        let batch =
            [r#"{"qty":5,"productId":501}"#, r#"{"qty":6,"productId":501}"#, r#"{"qty":1}"#, r#"{"qty":2}"#];
        let answers = requests(&define(), &host, &batch.map(request)).unwrap();
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [201, 409, 201, 201]);
        assert_eq!(text(&answers[0]), r#"{"productId":501,"currentQty":5}"#);
        assert_eq!(text(&answers[3]), r#"{"productId":9,"currentQty":2}"#);
        let location = answers[2].headers.iter().find(|header| header.name == "location").unwrap();
        assert_eq!(location.value, b"/stocks/7");
        let recorded = host.recorded();
        assert_eq!(recorded.statements.len(), 3);
        assert_eq!(recorded.values(), [0, 2, 3].map(|place: usize| text(&answers[place])));
    }

    #[test]
    fn invalid_input_is_refused_before_any_statement() {
        let host = TestHost::default();
        let (mut batch, mut named) = (vec![request("{}")], vec!["qty"]);
        for number in
            ["0", "-1", "2147483648", "9223372036854775808", "1e40", "1.5", "\"1\"", "true", "null", "[1]"]
        {
            batch.push(request(&format!(r#"{{"qty":{number}}}"#)));
            named.push("qty");
            if number != "null" {
                batch.push(request(&format!(r#"{{"qty":1,"productId":{number}}}"#)));
                named.push("productId");
            }
        }
        let answers = requests(&define(), &host, &batch).unwrap();
        for ((answer, name), asked) in answers.iter().zip(named).zip(&batch) {
            let asked = String::from_utf8_lossy(&asked.body);
            assert!(answer.status == 400 && text(answer).contains(name), "{asked}: {}", text(answer));
        }
        let other = Request { headers: Vec::new(), ..request(r#"{"qty":1}"#) };
        assert_eq!(requests(&define(), &host, &[other]).unwrap()[0].status, 415);
        assert!(host.recorded().statements.is_empty());
    }
}
