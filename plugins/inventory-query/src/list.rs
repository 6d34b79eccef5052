//! `GET /stocks`, sorted by number, and `GET /stocks/{productId}`.

use saga_plugin::{Context, Db, DbResult, Input, Page, Positive, Problem, Read, Request, Response, one};
use serde::Serialize;

/// The product's number: what the list is sorted by.
const KEY_BYTES: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stock {
    product_id: i32,
    current_qty: i32,
}

impl From<(i32, i32)> for Stock {
    fn from((product_id, current_qty): (i32, i32)) -> Self {
        Self { product_id, current_qty }
    }
}

pub(crate) struct Listed(Page<KEY_BYTES>);

impl Input for Listed {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        Ok(Self(Page::of(request)?))
    }
}

pub(crate) struct Stocks;

impl Read for Stocks {
    type Query = Listed;

    fn answer(db: &Db<'_>, Listed(page): &Listed) -> DbResult<Response> {
        let after = page.after.map_or(i32::MIN, i32::from_be_bytes);
        let found = db.query(
            "SELECT product_id, current_qty FROM public.stock_view WHERE product_id > $1
              ORDER BY product_id LIMIT $2",
            &[one(after), one(page.fetch())],
        )?;
        let stocks: Vec<Stock> = found.rows::<(i32, i32)>()?.into_iter().map(Into::into).collect();
        Ok(page.answer("/stocks", &[], stocks, |stock| stock.product_id.to_be_bytes()))
    }
}

/// The product that is asked for.
pub(crate) struct OfProduct(Positive);

impl Input for OfProduct {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        let product = request.param(0);
        Ok(Self(Positive::parse(product).ok_or_else(|| unknown(product))?))
    }
}

fn unknown(product: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no product {product}"))
}

pub(crate) struct OneStock;

impl Read for OneStock {
    type Query = OfProduct;

    fn answer(db: &Db<'_>, OfProduct(product): &OfProduct) -> DbResult<Response> {
        let found = db.query(
            "SELECT product_id, current_qty FROM public.stock_view WHERE product_id = $1",
            &[one(product.get())],
        )?;
        Ok(match found.rows::<(i32, i32)>()?.pop() {
            Some(row) => Response::json(200, &Stock::from(row)),
            None => unknown(product.get()).into(),
        })
    }
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

    fn ask(host: &TestHost, route: u32, param: &str, query: &[(&str, &str)]) -> Response {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let asked = Request { route, params: vec![param.to_owned()], query, ..request("") };
        requests(&define(), host, &[asked]).unwrap().remove(0)
    }

    #[test]
    fn one_stock_and_many() {
        let host =
            TestHost::default().answer([many([7]), many([0])]).answer([many([7, 8, 9]), many([0, 1, 2])]);
        assert_eq!(ask(&host, 1, "7", &[]).body, br#"{"productId":7,"currentQty":0}"#);
        let list = ask(&host, 0, "", &[("limit", "2")]);
        assert_eq!(list.body, br#"[{"productId":7,"currentQty":0},{"productId":8,"currentQty":1}]"#);
        let link = list.headers.iter().find(|header| header.name == "link").unwrap();
        assert_eq!(link.value, br#"</stocks?limit=2&cursor=AAAACA>; rel="next""#);
    }

    #[test]
    fn invalid_input_is_refused() {
        let host = TestHost::default();
        for product in ["abc", "0", "-1", "1.0", "99999999999999999999"] {
            assert_eq!(ask(&host, 1, product, &[]).status, 404, "{product}");
        }
        for (name, value) in [("limit", "0"), ("limit", "1001"), ("cursor", "abc"), ("cursor", "eyJhIjoxfQ")]
        {
            let response = ask(&host, 0, "", &[(name, value)]);
            assert!(
                response.status == 400 && String::from_utf8_lossy(&response.body).contains(name),
                "{name}={value}"
            );
        }
        assert!(host.recorded().statements.is_empty());
    }
}
