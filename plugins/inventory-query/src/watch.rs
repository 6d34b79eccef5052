//! What is said about a product: the latest counts, by its record's time, in whatever order it comes.

use saga_plugin::{Context, Db, DbResult, Delivery, Effects, Fold, Input, Outcome, Table, Timestamp, many};
use serde::Deserialize;

use crate::STOCK_UPDATED;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StockValue {
    product_id: i32,
    current_qty: i32,
}

/// A quantity and its rank: an update beats a creation of the same instant, a later record an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    rank: (Timestamp, bool),
    current_qty: i32,
}

pub(crate) struct News {
    product_id: i32,
    said: Said,
}

impl Input for News {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        let StockValue { product_id, current_qty } = delivery.json()?;
        let rank = (delivery.time(), delivery.topic() == STOCK_UPDATED);
        Ok(Self { product_id, said: Said { rank, current_qty } })
    }
}

pub(crate) struct Watch;

impl Fold for Watch {
    type Input = News;
    /// Only what the batch says: the statement compares it with what was said before.
    type Rows = Table<i32, Said>;

    fn load(_: &Db<'_>, _: &[News]) -> DbResult<Table<i32, Said>> {
        Ok(Table::default())
    }

    fn decide(stock: &mut Table<i32, Said>, news: &News, _: &mut Effects<'_>) -> Outcome {
        if stock.get(&news.product_id).is_none_or(|before| before.rank <= news.said.rank) {
            stock.set(news.product_id, news.said);
        }
        Outcome::Done
    }

    fn store(db: &Db<'_>, stock: &Table<i32, Said>) -> DbResult<()> {
        let (products, said): (Vec<i32>, Vec<Said>) = stock.changed().unzip();
        db.execute(
            "INSERT INTO public.stock_view AS s (product_id, current_qty, said_at, updated)
             SELECT v.product_id, v.current_qty, v.said_at, v.updated
               FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::boolean[]) v (product_id, current_qty, said_at, updated)
              ORDER BY v.product_id
             ON CONFLICT (product_id) DO UPDATE
                SET current_qty = excluded.current_qty, said_at = excluded.said_at, updated = excluded.updated
              WHERE (excluded.said_at, excluded.updated) >= (s.said_at, s.updated)",
            &[
                many(products),
                many(said.iter().map(|said| said.current_qty)),
                many(said.iter().map(|said| said.rank.0)),
                many(said.iter().map(|said| said.rank.1)),
            ],
        )?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use saga_plugin::{
        Delivery, Outcome,
        dispatch::deliveries,
        testing::{NOW_US, TestHost, fold, record},
    };

    use super::{Context, Input, News, Watch};
    use crate::{STOCK_CREATED, STOCK_UPDATED, define};

    fn said(topic: &str, quantity: i32, later_ms: i64) -> Delivery {
        let value = format!(r#"{{"warehouse":"north","currentQty":{quantity},"productId":7}}"#);
        Delivery { timestamp: NOW_US + later_ms * 1_000, ..record(topic, &value) }
    }

    #[test]
    fn the_latest_counts() {
        for (batch, expected) in [
            (vec![(STOCK_CREATED, 10, 0), (STOCK_UPDATED, 8, 1)], 8),
            (vec![(STOCK_UPDATED, 8, 1), (STOCK_CREATED, 10, 0)], 8),
            (vec![(STOCK_UPDATED, 8, 0), (STOCK_CREATED, 10, 0)], 8),
            (vec![(STOCK_UPDATED, 8, 0), (STOCK_UPDATED, 7, 0)], 7),
            (vec![(STOCK_UPDATED, 8, 5), (STOCK_UPDATED, 7, 4)], 8),
            (vec![(STOCK_UPDATED, 0, 5)], 0),
        ] {
            let host = TestHost::default();
            let context = Context::new(&host, 1);
            let news = batch
                .iter()
                .map(|(topic, quantity, at)| News::decode(&said(topic, *quantity, *at), &context).unwrap());
            let folded = fold::<Watch>(saga_plugin::Table::default(), news);
            assert_eq!(folded.rows.get(&7).unwrap().current_qty, expected, "{batch:?}");
        }
    }

    #[test]
    fn two_topics_are_one_statement() {
        let host = TestHost::default();
        let batch = [
            said(STOCK_CREATED, 10, 0),
            record(STOCK_CREATED, r#"{"productId":"x"}"#),
            said(STOCK_UPDATED, 9, 0),
        ];
        let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Reject(_), Outcome::Done]));
        assert_eq!(host.recorded().statements.len(), 1);
    }
}
