//! The outcomes of the orders, as four counts that must be zero.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use uuid::Uuid;

use super::account;
use super::orders::{Orders, Placed};
use super::sequence::Sequence;
use saga_testkit::report::Report;
use saga_testkit::target::Target;
use saga_testkit::verify::{self, Ledger, Rows, Scope};

/// Orders, unless the field says records.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) accepted: usize,
    /// Accepted, but missing; or a record, a notification or a saga of the order is missing.
    pub(super) lost: usize,
    /// Placed by no client; or a record, a notification or a saga of the order exists twice.
    pub(super) doubled: usize,
    /// Records that come after a later one of their lane.
    pub(super) reordered: u64,
    /// Orders and sagas without an end, and parked deliveries.
    pub(super) stuck: usize,
    /// Records that were sent again, with the id and the bytes of the first one.
    pub(super) repeated: u64,
}

/// Waits until the system is quiet, and checks every invariant there.
pub(super) async fn all(
    target: &Target,
    orders: &Orders,
    products: &[i64],
    stock: i64,
    quiet_within: Duration,
    report: &mut Report,
) -> Result<Counts> {
    let placed = orders.placed()?;
    report.area("orders");
    report.note(format!("all {} orders were accepted in the end", orders.planned()), orders.complete());
    let (ledger, rows) = verify::check(target, &Scope::all(quiet_within), report).await?;
    report.area("what the clients know");
    for (name, outcome) in account::all(&placed, &rows, products, stock) {
        report.note(name, outcome);
    }
    let again = account::repeat(target.http()?, &placed);
    report.run("an accepted order that is placed again is answered the same", again).await;
    let sequence = Sequence::read(&target.kafka).await?;
    report.area("orders and records");
    let counts = count(&placed, &ledger, &rows, &sequence);
    counts.check(&sequence, report);
    Ok(counts)
}

fn count(placed: &[Placed], ledger: &Ledger, rows: &Rows, sequence: &Sequence) -> Counts {
    let ids: HashSet<Uuid> = placed.iter().map(|order| order.id).collect();
    let missing = ids.iter().filter(|id| !rows.orders.contains_key(*id)).count();
    let unknown = rows.orders.keys().filter(|id| !ids.contains(*id)).count();
    let mut counts = Counts {
        accepted: placed.len(),
        lost: missing,
        doubled: unknown,
        reordered: sequence.reordered,
        stuck: usize::try_from(rows.parked).unwrap_or_default(),
        repeated: sequence.repeated,
    };
    for (id, order) in &rows.orders {
        let flow = ledger.orders.get(id).copied().unwrap_or_default();
        let sagas = rows.sagas.get(id).map(Vec::as_slice).unwrap_or_default();
        let notified = rows.notifications.get(id).map_or(0, Vec::len);
        let pending = order.status.starts_with("PENDING");
        let live = sagas.iter().any(String::is_empty);
        let always = [flow.created as usize, sagas.len()];
        let at_end = [flow.deducted + flow.rejected, flow.confirmed + flow.cancelled].map(|n| n as usize);
        let all = || always.into_iter().chain(at_end).chain([notified]);
        counts.stuck += usize::from(pending || live);
        counts.lost += usize::from(always.contains(&0) || !pending && all().any(|times| times == 0));
        counts.doubled += usize::from(all().any(|times| times > 1));
    }
    counts
}

impl Counts {
    fn check(&self, sequence: &Sequence, report: &mut Report) {
        report.note(format!("{} orders lost", self.lost), zero(self.lost, ""));
        report.note(format!("{} orders doubled", self.doubled), zero(self.doubled, ""));
        let offenders = sequence.offenders.join("; ");
        report.note(
            format!("{} records reordered; {} sent again", self.reordered, self.repeated),
            zero(usize::try_from(self.reordered).unwrap_or(usize::MAX), &offenders),
        );
        report.note(format!("{} orders stuck", self.stuck), zero(self.stuck, ""));
    }
}

fn zero(count: usize, detail: &str) -> Result<()> {
    ensure!(count == 0, "{count}, must be 0. {detail}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Counts, Placed, Sequence, count};
    use saga_testkit::verify::{Ledger, Order, Rows};

    const ID: Uuid = Uuid::from_u128(1);

    fn placed() -> Vec<Placed> {
        vec![Placed { id: ID, product: 7, qty: 3, waited: false, body: String::new() }]
    }

    /// One order that ended well.
    fn ended() -> (Ledger, Rows) {
        let mut ledger = Ledger::default();
        let flow = ledger.orders.entry(ID).or_default();
        (flow.created, flow.deducted, flow.confirmed) = (1, 1, 1);
        let order = Order { product: 7, qty: 3, status: "CONFIRMED".to_owned() };
        let rows = Rows {
            orders: [(ID, order)].into(),
            sagas: [(ID, vec!["completed".to_owned()])].into(),
            notifications: [(ID, vec!["OrderConfirmed".to_owned()])].into(),
            ..Rows::default()
        };
        (ledger, rows)
    }

    /// Lost, doubled, stuck.
    fn counted(change: impl FnOnce(&mut Ledger, &mut Rows)) -> [usize; 3] {
        let (mut ledger, mut rows) = ended();
        change(&mut ledger, &mut rows);
        let Counts { lost, doubled, stuck, .. } = count(&placed(), &ledger, &rows, &Sequence::default());
        [lost, doubled, stuck]
    }

    #[test]
    fn every_kind_of_damage_is_counted() {
        assert_eq!(counted(|_, _| {}), [0, 0, 0]);
        assert_eq!(counted(|_, rows| drop(rows.orders.remove(&ID))), [1, 0, 0], "the order is gone");
        assert_eq!(counted(|ledger, _| ledger.orders.clear()), [1, 0, 0], "no record of it");
        assert_eq!(counted(|_, rows| rows.notifications.clear()), [1, 0, 0], "no notification");
        let twice = counted(|ledger, _| ledger.orders.get_mut(&ID).unwrap().deducted = 2);
        assert_eq!(twice, [0, 1, 0], "deducted twice");
        let both = counted(|ledger, _| ledger.orders.get_mut(&ID).unwrap().rejected = 1);
        assert_eq!(both, [0, 1, 0], "deducted and rejected");
        let unknown = counted(|ledger, rows| {
            let (order, flow) = (rows.orders[&ID].clone(), ledger.orders[&ID]);
            let other = Uuid::from_u128(2);
            rows.orders.insert(other, order);
            rows.sagas.insert(other, vec!["completed".to_owned()]);
            rows.notifications.insert(other, vec!["OrderConfirmed".to_owned()]);
            ledger.orders.insert(other, flow);
        });
        assert_eq!(unknown, [0, 1, 0], "no client placed it");
        let pending = counted(|ledger, rows| {
            rows.orders.get_mut(&ID).unwrap().status = "PENDING_CONFIRMATION".to_owned();
            rows.sagas.insert(ID, vec![String::new()]);
            rows.notifications.clear();
            let flow = ledger.orders.get_mut(&ID).unwrap();
            (flow.deducted, flow.confirmed) = (0, 0);
        });
        assert_eq!(pending, [0, 0, 1], "pending");
        assert_eq!(counted(|_, rows| rows.parked = 2), [0, 0, 2], "parked deliveries");
    }
}
