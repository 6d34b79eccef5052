//! Updates the view of the stock. Of the quantities of a product the latest counts, in whatever order the
//! records arrive: of records that this system sent, the one that was committed last; of others, the one with
//! the latest time in Kafka.

use saga_plugin::{
    Context, Db, DbResult, Delivery, Effects, Fold, Input, Outcome, Table, Timestamp, many, many_or_null,
};
use serde::Deserialize;

use crate::STOCK_UPDATED;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StockValue {
    product_id: i32,
    current_qty: i32,
}

/// A quantity and its rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RankedQuantity {
    /// Of records of other services: of one time an update beats a creation, else the later record wins.
    rank: (Timestamp, bool),
    /// Of records of this system.
    sequence: Option<String>,
    current_qty: i32,
}

impl RankedQuantity {
    /// Whether it counts when `before` is known. The statement of [`UpdateView::store`] decides the same.
    fn supersedes(&self, before: &Self) -> bool {
        match (&self.sequence, &before.sequence) {
            (Some(sequence), Some(before)) => sequence > before,
            _ => self.rank >= before.rank,
        }
    }
}

pub(crate) struct StockRecord {
    product_id: i32,
    ranked: RankedQuantity,
}

impl Input for StockRecord {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        let StockValue { product_id, current_qty } = delivery.json()?;
        let rank = (delivery.time(), delivery.topic() == STOCK_UPDATED);
        let sequence = delivery.sequence.clone();
        Ok(Self { product_id, ranked: RankedQuantity { rank, sequence, current_qty } })
    }
}

pub(crate) struct UpdateView;

impl Fold for UpdateView {
    type Input = StockRecord;
    /// The quantities of the batch only. The statement compares them with what is stored.
    type Rows = Table<i32, RankedQuantity>;

    fn load(_: &Db<'_>, _: &[StockRecord]) -> DbResult<Table<i32, RankedQuantity>> {
        Ok(Table::default())
    }

    fn decide(stock: &mut Table<i32, RankedQuantity>, record: &StockRecord, _: &mut Effects<'_>) -> Outcome {
        if stock.get(&record.product_id).is_none_or(|before| record.ranked.supersedes(before)) {
            stock.set(record.product_id, record.ranked.clone());
        }
        Outcome::Done
    }

    fn store(db: &Db<'_>, stock: &Table<i32, RankedQuantity>) -> DbResult<()> {
        let (products, ranked): (Vec<i32>, Vec<&RankedQuantity>) = stock.changed().unzip();
        db.execute(
            "INSERT INTO public.stock_view AS s (product_id, current_qty, said_at, updated, sequence)
             SELECT v.product_id, v.current_qty, v.said_at, v.updated, v.sequence
               FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::boolean[], $5::text[])
                    v (product_id, current_qty, said_at, updated, sequence)
              ORDER BY v.product_id
             ON CONFLICT (product_id) DO UPDATE
                SET current_qty = excluded.current_qty, said_at = excluded.said_at,
                    updated = excluded.updated, sequence = excluded.sequence
              WHERE coalesce(excluded.sequence > s.sequence,
                             (excluded.said_at, excluded.updated) >= (s.said_at, s.updated))",
            &[
                many(products),
                many(ranked.iter().map(|ranked| ranked.current_qty)),
                many(ranked.iter().map(|ranked| ranked.rank.0)),
                many(ranked.iter().map(|ranked| ranked.rank.1)),
                many_or_null(ranked.iter().map(|ranked| ranked.sequence.clone())),
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

    use super::{Context, Input, StockRecord, UpdateView};
    use crate::{STOCK_CREATED, STOCK_UPDATED, define};

    fn ranked(topic: &str, quantity: i32, later_ms: i64) -> Delivery {
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
            let records = batch.iter().map(|(topic, quantity, at)| {
                StockRecord::decode(&ranked(topic, *quantity, *at), &context).unwrap()
            });
            let folded = fold::<UpdateView>(saga_plugin::Table::default(), records);
            assert_eq!(folded.rows.get(&7).unwrap().current_qty, expected, "{batch:?}");
        }
    }

    /// Quantity, number of the outbox row (0 for another service), and time in Kafka.
    fn last_of(batch: &[(i32, i64, i64)]) -> i32 {
        let host = TestHost::default();
        let context = Context::new(&host, 1);
        let records = batch.iter().map(|(quantity, seq, at)| {
            let sequence = (*seq > 0).then(|| format!("6921f3c000c0ffee-{seq:020}-00000"));
            let record = Delivery { sequence, ..ranked(STOCK_UPDATED, *quantity, *at) };
            StockRecord::decode(&record, &context).unwrap()
        });
        fold::<UpdateView>(saga_plugin::Table::default(), records).rows.get(&7).unwrap().current_qty
    }

    #[test]
    fn of_this_systems_records_the_last_commit_counts_whatever_the_clocks_say() {
        for (batch, expected) in [
            (vec![(8, 10, 3_600_000), (7, 11, 0)], 7),
            (vec![(7, 11, 0), (8, 10, 3_600_000)], 7),
            (vec![(7, 9, 0), (8, 10, 0)], 8),
            (vec![(7, 10, 0), (7, 10, 0)], 7),
            (vec![(8, 10, 5), (7, 0, 6)], 7),
            (vec![(7, 0, 6), (8, 10, 5)], 7),
            (vec![(8, 10, 5), (7, 0, 4)], 8),
        ] {
            assert_eq!(last_of(&batch), expected, "{batch:?}");
        }
    }

    #[test]
    fn two_topics_are_one_statement() {
        let host = TestHost::default();
        let batch = [
            ranked(STOCK_CREATED, 10, 0),
            record(STOCK_CREATED, r#"{"productId":"x"}"#),
            ranked(STOCK_UPDATED, 9, 0),
        ];
        let outcomes = deliveries(&define(), &host, &batch, Vec::new()).unwrap();
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Reject(_), Outcome::Done]));
        assert_eq!(host.recorded().statements.len(), 1);
    }
}
