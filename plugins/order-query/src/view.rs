//! The facts about an order, and how to merge them: the result does not depend on the order in which they
//! arrive. Of two replies the one with the earlier record counts, as it does for the orchestrator.

use saga_plugin::{Db, DbResult, Table, Timestamp, Uuid, many, many_or_null};

/// How an order was decided. Of two decisions at one time, the first in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    Confirmed,
    Cancelled,
}

/// The facts about one order in the records of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct OrderFacts {
    /// Product, quantity and time of order-created.
    pub(crate) created: Option<(i32, i32, Timestamp)>,
    /// The earliest reply.
    pub(crate) decided: Option<(Timestamp, Decision)>,
}

impl OrderFacts {
    /// Merges two sets of facts.
    pub(crate) fn and(self, other: Self) -> Self {
        let decided = match (self.decided, other.decided) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { created: self.created.or(other.created), decided }
    }

    fn status(&self) -> &'static str {
        match self.decided {
            None => "PENDING_CONFIRMATION",
            Some((_, Decision::Confirmed)) => "CONFIRMED",
            Some((_, Decision::Cancelled)) => "CANCELLED",
        }
    }
}

/// Merges facts into the table, by the rules of [`OrderFacts::and`].
pub(crate) fn store(db: &Db<'_>, facts: &Table<Uuid, OrderFacts>) -> DbResult<()> {
    let (ids, facts): (Vec<Uuid>, Vec<OrderFacts>) = facts.changed().unzip();
    let created = || facts.iter().map(|facts| facts.created);
    db.execute(
        "INSERT INTO public.order_view AS o (order_id, product_id, order_qty, status, created_at, decided_at)
         SELECT v.order_id, coalesce(v.product_id, 0), coalesce(v.order_qty, 0), v.status,
                v.created_at, v.decided_at
           FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[])
                v (order_id, product_id, order_qty, status, created_at, decided_at)
          ORDER BY v.order_id
         ON CONFLICT (order_id) DO UPDATE SET
             product_id = CASE WHEN o.created_at IS NULL THEN excluded.product_id ELSE o.product_id END,
             order_qty  = CASE WHEN o.created_at IS NULL THEN excluded.order_qty ELSE o.order_qty END,
             created_at = coalesce(o.created_at, excluded.created_at),
             status     = CASE WHEN o.decided_at IS NULL
                                 OR (excluded.decided_at, excluded.status = 'CANCELLED')
                                    < (o.decided_at, o.status = 'CANCELLED')
                               THEN excluded.status ELSE o.status END,
             decided_at = least(o.decided_at, excluded.decided_at)",
        &[
            many(ids),
            many_or_null(created().map(|created| Some(created?.0))),
            many_or_null(created().map(|created| Some(created?.1))),
            many(facts.iter().map(|facts| facts.status().to_owned())),
            many_or_null(created().map(|created| Some(created?.2))),
            many_or_null(facts.iter().map(|facts| Some(facts.decided?.0))),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use saga_plugin::Timestamp;

    use super::{
        Decision::{Cancelled, Confirmed},
        OrderFacts,
    };

    #[test]
    fn facts_merge_the_same_in_any_order() {
        let created = OrderFacts { created: Some((7, 2, Timestamp(1))), ..OrderFacts::default() };
        let decided =
            |at, decision| OrderFacts { decided: Some((Timestamp(at), decision)), ..OrderFacts::default() };
        for (pieces, status) in [
            (vec![created], "PENDING_CONFIRMATION"),
            (vec![created, decided(2, Confirmed)], "CONFIRMED"),
            (vec![created, decided(2, Cancelled)], "CANCELLED"),
            (vec![created, decided(2, Confirmed), decided(3, Cancelled)], "CONFIRMED"),
            (vec![created, decided(3, Confirmed), decided(2, Cancelled)], "CANCELLED"),
            (vec![created, decided(2, Confirmed), decided(2, Cancelled)], "CONFIRMED"),
            (vec![decided(2, Confirmed), decided(2, Confirmed)], "CONFIRMED"),
        ] {
            let forward = pieces.iter().copied().fold(OrderFacts::default(), OrderFacts::and);
            let backward = pieces.iter().rev().copied().fold(OrderFacts::default(), OrderFacts::and);
            assert_eq!((forward, forward.status()), (backward, status), "{pieces:?}");
        }
    }
}
