//! What is known of an order, and how two pieces of knowledge become one: in whatever order they come, the
//! result is the same. Of two replies the one with the earlier record counts, as it does for the
//! orchestrator.

use saga_plugin::{Db, DbResult, Table, Timestamp, Uuid, many, many_or_null};

/// How an order was decided. Of two decisions of one instant the first in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    Confirmed,
    Cancelled,
}

/// What the records of a batch say about one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Known {
    /// Product, quantity and time of order-created.
    pub(crate) created: Option<(i32, i32, Timestamp)>,
    /// The earliest reply.
    pub(crate) decided: Option<(Timestamp, Decision)>,
}

impl Known {
    /// Both together.
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

/// Merges what is known into the table, by the rules of [`Known::and`].
pub(crate) fn store(db: &Db<'_>, known: &Table<Uuid, Known>) -> DbResult<()> {
    let (ids, known): (Vec<Uuid>, Vec<Known>) = known.changed().unzip();
    let created = || known.iter().map(|known| known.created);
    db.execute(
        "INSERT INTO public.order_view AS o (order_id, product_id, order_qty, status, created_at, decided_at)
         SELECT v.order_id, coalesce(v.product_id, 0), coalesce(v.order_qty, 0), v.status, v.created_at, v.decided_at
           FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[])
                v (order_id, product_id, order_qty, status, created_at, decided_at)
          ORDER BY v.order_id
         ON CONFLICT (order_id) DO UPDATE SET
             product_id = CASE WHEN o.created_at IS NULL THEN excluded.product_id ELSE o.product_id END,
             order_qty  = CASE WHEN o.created_at IS NULL THEN excluded.order_qty ELSE o.order_qty END,
             created_at = coalesce(o.created_at, excluded.created_at),
             status     = CASE WHEN o.decided_at IS NULL
                                 OR (excluded.decided_at, excluded.status = 'CANCELLED') < (o.decided_at, o.status = 'CANCELLED')
                               THEN excluded.status ELSE o.status END,
             decided_at = least(o.decided_at, excluded.decided_at)",
        &[
            many(ids),
            many_or_null(created().map(|created| Some(created?.0))),
            many_or_null(created().map(|created| Some(created?.1))),
            many(known.iter().map(|known| known.status().to_owned())),
            many_or_null(created().map(|created| Some(created?.2))),
            many_or_null(known.iter().map(|known| Some(known.decided?.0))),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use saga_plugin::Timestamp;

    use super::{
        Decision::{Cancelled, Confirmed},
        Known,
    };

    #[test]
    fn knowledge_is_the_same_in_any_order() {
        let created = Known { created: Some((7, 2, Timestamp(1))), ..Known::default() };
        let decided = |at, decision| Known { decided: Some((Timestamp(at), decision)), ..Known::default() };
        for (pieces, status) in [
            (vec![created], "PENDING_CONFIRMATION"),
            (vec![created, decided(2, Confirmed)], "CONFIRMED"),
            (vec![created, decided(2, Cancelled)], "CANCELLED"),
            (vec![created, decided(2, Confirmed), decided(3, Cancelled)], "CONFIRMED"),
            (vec![created, decided(3, Confirmed), decided(2, Cancelled)], "CANCELLED"),
            (vec![created, decided(2, Confirmed), decided(2, Cancelled)], "CONFIRMED"),
            (vec![decided(2, Confirmed), decided(2, Confirmed)], "CONFIRMED"),
        ] {
            let forward = pieces.iter().copied().fold(Known::default(), Known::and);
            let backward = pieces.iter().rev().copied().fold(Known::default(), Known::and);
            assert_eq!((forward, forward.status()), (backward, status), "{pieces:?}");
        }
    }
}
