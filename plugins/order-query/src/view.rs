//! The facts about an order, and how to merge them: the result does not depend on the order in which they
//! arrive.

use std::cmp::Reverse;

use saga_plugin::{Db, DbResult, Table, Timestamp, Uuid, many, many_or_null};

/// How an order ended. Of two ends at one time, the first in this list counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Confirmed,
    Cancelled,
}

/// The end of an order, as one notification says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// None for a notification of another service.
    pub(crate) sequence: Option<String>,
    /// Time in Kafka.
    pub(crate) at: Timestamp,
    pub(crate) status: Status,
}

impl Decided {
    /// The higher one counts. The orchestrator of this system decides its own orders, and what it decided last
    /// counts, whatever another service says of them. Of notifications of other services the earliest counts:
    /// they also send one for a second or contradicting reply.
    fn rank(&self) -> (Option<&str>, Reverse<(Timestamp, Status)>) {
        (self.sequence.as_deref(), Reverse((self.at, self.status)))
    }
}

/// The facts about one order in the records of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct OrderFacts {
    /// Product, quantity and time of order-created.
    pub(crate) created: Option<(i32, i32, Timestamp)>,
    /// The end that counts.
    pub(crate) decided: Option<Decided>,
}

impl OrderFacts {
    /// Merges two sets of facts.
    pub(crate) fn and(self, other: Self) -> Self {
        let decided = match (self.decided, other.decided) {
            (Some(one), Some(two)) => Some(if one.rank() >= two.rank() { one } else { two }),
            (one, two) => one.or(two),
        };
        Self { created: self.created.or(other.created), decided }
    }

    fn status(&self) -> &'static str {
        match self.decided.as_ref().map(|decided| decided.status) {
            None => "PENDING_CONFIRMATION",
            Some(Status::Confirmed) => "CONFIRMED",
            Some(Status::Cancelled) => "CANCELLED",
        }
    }
}

/// Whether the end in `excluded` counts when `o` is stored, by [`Decided::rank`]. Without one on either side it
/// is NULL or false.
macro_rules! excluded_decides {
    () => {
        "coalesce((coalesce(excluded.decided_sequence, ''), o.decided_at, o.status = 'CANCELLED')
                  > (coalesce(o.decided_sequence, ''), excluded.decided_at, excluded.status = 'CANCELLED'),
                  excluded.decided_at IS NOT NULL)"
    };
}

const STORE: &str = concat!(
    "INSERT INTO public.order_view AS o
            (order_id, product_id, order_qty, status, created_at, decided_at, decided_sequence)
     SELECT v.order_id, coalesce(v.product_id, 0), coalesce(v.order_qty, 0), v.status,
            v.created_at, v.decided_at, v.decided_sequence
       FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                   $7::text[])
            v (order_id, product_id, order_qty, status, created_at, decided_at, decided_sequence)
      ORDER BY v.order_id
     ON CONFLICT (order_id) DO UPDATE SET
         product_id = CASE WHEN o.created_at IS NULL THEN excluded.product_id ELSE o.product_id END,
         order_qty  = CASE WHEN o.created_at IS NULL THEN excluded.order_qty ELSE o.order_qty END,
         created_at = coalesce(o.created_at, excluded.created_at),
         status     = CASE WHEN ",
    excluded_decides!(),
    " THEN excluded.status ELSE o.status END,
         decided_at = CASE WHEN ",
    excluded_decides!(),
    " THEN excluded.decided_at ELSE o.decided_at END,
         decided_sequence = greatest(o.decided_sequence, excluded.decided_sequence)"
);

/// Merges facts into the table, by the rules of [`OrderFacts::and`].
pub(crate) fn store(db: &Db<'_>, facts: &Table<Uuid, OrderFacts>) -> DbResult<()> {
    let (ids, facts): (Vec<Uuid>, Vec<&OrderFacts>) = facts.changed().unzip();
    let created = || facts.iter().map(|facts| facts.created);
    let decided = || facts.iter().map(|facts| facts.decided.as_ref());
    db.execute(
        STORE,
        &[
            many(ids),
            many_or_null(created().map(|created| Some(created?.0))),
            many_or_null(created().map(|created| Some(created?.1))),
            many(facts.iter().map(|facts| facts.status().to_owned())),
            many_or_null(created().map(|created| Some(created?.2))),
            many_or_null(decided().map(|decided| Some(decided?.at))),
            many_or_null(decided().map(|decided| decided?.sequence.clone())),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use saga_plugin::Timestamp;

    use super::{
        Decided, OrderFacts,
        Status::{self, Cancelled, Confirmed},
    };

    /// By another service (0), or by this system with a number.
    fn decided(seq: i64, at: i64, status: Status) -> OrderFacts {
        let sequence = (seq > 0).then(|| format!("6921f3c000c0ffee-{seq:020}-00000"));
        OrderFacts { created: None, decided: Some(Decided { sequence, at: Timestamp(at), status }) }
    }

    #[test]
    fn facts_merge_the_same_in_any_order() {
        let created = OrderFacts { created: Some((7, 2, Timestamp(1))), decided: None };
        for (pieces, status) in [
            (vec![created.clone()], "PENDING_CONFIRMATION"),
            (vec![created.clone(), decided(0, 2, Confirmed)], "CONFIRMED"),
            (vec![created.clone(), decided(9, 2, Cancelled)], "CANCELLED"),
            (vec![created.clone(), decided(0, 2, Confirmed), decided(0, 3, Cancelled)], "CONFIRMED"),
            (vec![created.clone(), decided(0, 3, Confirmed), decided(0, 2, Cancelled)], "CANCELLED"),
            (vec![created.clone(), decided(0, 2, Confirmed), decided(0, 2, Cancelled)], "CONFIRMED"),
            (vec![created.clone(), decided(9, 3, Confirmed), decided(0, 2, Cancelled)], "CONFIRMED"),
            (vec![created, decided(9, 3, Confirmed), decided(0, 4, Cancelled)], "CONFIRMED"),
            (vec![decided(9, 3, Confirmed), decided(10, 2, Cancelled)], "CANCELLED"),
            (vec![decided(0, 2, Confirmed), decided(0, 2, Confirmed)], "CONFIRMED"),
        ] {
            let forward = pieces.iter().cloned().fold(OrderFacts::default(), OrderFacts::and);
            let backward = pieces.iter().rev().cloned().fold(OrderFacts::default(), OrderFacts::and);
            assert_eq!((forward.clone(), forward.status()), (backward, status), "{pieces:?}");
        }
    }
}
