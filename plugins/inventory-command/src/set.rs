//! `PATCH /stocks/{productId}?qty=N`: sets the quantity of a product.

use saga_plugin::{
    Context, Db, DbResult, Effects, Fold, Input, POSITIVE, Positive, Problem, Request, Response, keys,
};

use crate::stock::{self, Stock, StockValue};

pub(crate) struct NewQuantity {
    product: Positive,
    qty: Positive,
}

impl Input for NewQuantity {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        let product = Positive::parse(request.param(0)).ok_or_else(|| unknown(request.param(0)))?;
        let qty = request.query("qty")?.and_then(Positive::parse);
        Ok(Self { product, qty: qty.ok_or_else(|| Problem::parameter("qty", POSITIVE))? })
    }
}

fn unknown(product: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no product {product}"))
}

pub(crate) struct SetStock;

impl Fold for SetStock {
    type Input = NewQuantity;
    type Rows = Stock;

    fn load(db: &Db<'_>, inputs: &[NewQuantity]) -> DbResult<Stock> {
        stock::load(db, keys(inputs, |input| input.product.get()))
    }

    fn decide(stock: &mut Stock, input: &NewQuantity, effects: &mut Effects<'_>) -> Response {
        let value = StockValue { product_id: input.product.get(), current_qty: input.qty.get() };
        if stock.get(&value.product_id).is_none() {
            return unknown(value.product_id).into();
        }
        stock::update(stock, &value, effects);
        Response::json(200, &value)
    }

    fn store(db: &Db<'_>, stock: &Stock) -> DbResult<()> {
        stock::store(db, stock)
    }
}

#[cfg(test)]
mod tests {
    use saga_plugin::{
        Request, Table,
        dispatch::requests,
        many,
        testing::{TestHost, fold, request},
    };

    use super::{NewQuantity, Positive, SetStock};
    use crate::define;

    fn patch(product: &str, query: &[(&str, &str)]) -> Request {
        let query = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { route: 1, params: vec![product.to_owned()], query, ..request("") }
    }

    #[test]
    fn the_last_of_a_batch_wins_and_each_is_answered() {
        let set =
            |product, qty| Some(NewQuantity { product: Positive::new(product)?, qty: Positive::new(qty)? });
        let inputs = [set(7, 42), set(8, 1), set(7, 43)].into_iter().flatten();
        let folded = fold::<SetStock>(Table::from_iter([(7, 5)]), inputs);
        assert_eq!(folded.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 404, 200]);
        assert_eq!(folded.rows.changed().collect::<Vec<_>>(), [(&7, &43)]);
        assert_eq!(
            folded.effects.values(),
            [r#"{"productId":7,"currentQty":42}"#, r#"{"productId":7,"currentQty":43}"#]
        );
    }

    #[test]
    fn invalid_input_is_refused_before_any_statement() {
        let mut batch = Vec::new();
        for qty in ["0", "-1", "2147483648", "abc", "1.5", "", "+1"] {
            batch.push(patch("7", &[("qty", qty)]));
        }
        batch.push(patch("7", &[]));
        batch.push(patch("7", &[("quantity", "5")]));
        let of_qty = batch.len();
        for product in ["abc", "0", "-1", "1.0", "99999999999999999999", "07"] {
            batch.push(patch(product, &[("qty", "5")]));
        }
        let host = TestHost::default();
        let answers = requests(&define(), &host, &batch).unwrap_or_default();
        for (place, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status, if place < of_qty { 400 } else { 404 }, "{place}");
            assert!(place >= of_qty || String::from_utf8_lossy(&answer.body).contains("qty"), "{place}");
        }
        assert_eq!((answers.len(), host.recorded().statements.len()), (batch.len(), 0));
    }

    #[test]
    fn a_batch_costs_two_statements() {
        let host = TestHost::default().answer([many([7, 8]), many([1, 1])]);
        let batch = [patch("7", &[("qty", "5")]), patch("8", &[("qty", "6")]), patch("9", &[("qty", "6")])];
        let answers = requests(&define(), &host, &batch).unwrap_or_default();
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 404]);
        assert_eq!(host.recorded().statements.len(), 2);
    }
}
