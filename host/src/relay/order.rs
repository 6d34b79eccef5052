//! In which order committed units leave: pure bookkeeping over `seq`, no database, no Kafka.
//!
//! A unit takes its `seq` last and inside its transaction, so of two units that touch the same
//! rows the later has the higher `seq`, and whoever sees it committed can see the earlier one in
//! the database. Units of this host are registered before their COMMIT and handed over in memory;
//! what other hosts commit is found in a snapshot of the outbox. A missing number (a rollback, or
//! another host's unit) is cleared by a snapshot taken after the higher unit had committed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::record::Record;

/// The records of one unit.
pub type Records = Arc<Vec<Record>>;

#[derive(Debug)]
enum State {
    /// Its COMMIT is under way.
    Registered,
    Ready(Records),
    RolledBack,
}

/// What is committed but not yet acknowledged by Kafka, as far as this host knows.
#[derive(Debug)]
pub struct Order {
    units: BTreeMap<i64, State>,
    in_flight: BTreeMap<i64, Records>,
    /// The lowest number of which nothing is known yet.
    expected: i64,
    /// Up to here a snapshot has shown everything that may have to go first.
    cleared: i64,
    /// Ready units are kept in memory up to this many; beyond, they are read again from the outbox.
    ready_max: usize,
    overflown: bool,
}

impl Order {
    /// Nothing known yet.
    #[must_use]
    pub fn new(ready_max: usize) -> Self {
        Self {
            units: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            expected: i64::MIN,
            cleared: i64::MIN,
            ready_max,
            overflown: false,
        }
    }

    /// A unit of this host has its number and is about to commit.
    pub fn register(&mut self, seq: i64) {
        self.units.insert(seq, State::Registered);
    }

    /// That unit is committed.
    pub fn committed(&mut self, seq: i64, records: Records) {
        // Only while registered: a snapshot may have shown it, and it may be sent by now.
        if let Entry::Occupied(mut unit) = self.units.entry(seq)
            && matches!(unit.get(), State::Registered)
        {
            if self.overflown {
                unit.remove();
            } else {
                unit.insert(State::Ready(records));
            }
        }
        if self.units.len() > self.ready_max {
            self.overflow(i64::MIN);
        }
    }

    /// That unit is rolled back.
    pub fn rolled_back(&mut self, seq: i64) {
        self.units.entry(seq).and_modify(|state| *state = State::RolledBack);
    }

    /// Nobody knows what became of that unit: the outbox will tell.
    pub fn unknown(&mut self, seq: i64) {
        self.units.remove(&seq);
    }

    /// True when the next unit can only leave after a look at the outbox.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        match self.units.first_key_value() {
            Some((seq, State::Ready(_))) => *seq > self.expected.max(self.cleared),
            Some(_) => false,
            None => self.overflown && self.in_flight.len() < self.ready_max / 2,
        }
    }

    /// Call before the outbox is read; the answer goes to [`Order::snapshot`].
    pub fn begin_snapshot(&mut self) -> i64 {
        self.overflown = false;
        let ready = self.units.iter().rev().find(|(_, state)| matches!(state, State::Ready(_)));
        ready.map_or(i64::MIN, |(seq, _)| *seq)
    }

    /// The unpublished units by `seq`; `complete` is false when there were more than were read.
    pub fn snapshot(&mut self, begun_at: i64, rows: Vec<(i64, Records)>, complete: bool) {
        let last = rows.last().map_or(begun_at, |(seq, _)| (*seq).max(begun_at));
        for (seq, records) in rows {
            if self.in_flight.contains_key(&seq) {
                continue;
            }
            self.units.insert(seq, State::Ready(records));
        }
        self.cleared = self.cleared.max(last);
        if !complete {
            self.overflow(last);
        }
    }

    /// Drops from memory what lies above `kept`; the outbox still has it.
    fn overflow(&mut self, kept: i64) {
        self.overflown = true;
        self.units.retain(|seq, state| *seq <= kept || !matches!(state, State::Ready(_)));
    }

    /// The next unit to send, now in flight.
    pub fn next(&mut self) -> Option<(i64, Records)> {
        loop {
            let first = self.units.first_entry()?;
            let seq = *first.key();
            match first.get() {
                State::Registered => return None,
                State::RolledBack => {
                    first.remove();
                    if seq == self.expected {
                        self.expected += 1;
                    }
                }
                State::Ready(_) if seq > self.expected.max(self.cleared) => return None,
                State::Ready(_) => {
                    let State::Ready(records) = first.remove() else { return None };
                    self.expected = self.expected.max(seq + 1);
                    self.in_flight.insert(seq, records.clone());
                    return Some((seq, records));
                }
            }
        }
    }

    /// Kafka has acknowledged all of that unit, and the outbox has forgotten it.
    pub fn cleared(&mut self, seq: i64) {
        self.in_flight.remove(&seq);
    }

    /// Everything in flight is to be sent again, lowest first.
    pub fn resume(&mut self) {
        for (seq, records) in std::mem::take(&mut self.in_flight) {
            self.units.insert(seq, State::Ready(records));
        }
    }

    /// The units in flight, lowest first.
    #[must_use]
    pub fn in_flight_seqs(&self) -> Vec<i64> {
        self.in_flight.keys().copied().collect()
    }

    /// The records of a unit in flight.
    #[must_use]
    pub fn in_flight_records(&self, seq: i64) -> Option<Records> {
        self.in_flight.get(&seq).cloned()
    }

    /// True when nothing is left to send or to be acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.units.is_empty() && self.in_flight.is_empty() && !self.overflown
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Order, Records};

    fn records() -> Records {
        Arc::new(Vec::new())
    }

    fn sent(order: &mut Order) -> Vec<i64> {
        std::iter::from_fn(|| order.next()).map(|(seq, _)| seq).collect()
    }

    /// As a leader that has read an empty outbox up to number 10.
    fn leading() -> Order {
        let mut order = Order::new(100);
        order.register(10);
        order.committed(10, records());
        let begun = order.begin_snapshot();
        order.snapshot(begun, vec![(10, records())], true);
        assert_eq!(sent(&mut order), [10]);
        order
    }

    #[test]
    fn a_lower_unit_that_is_committing_goes_first() {
        let mut order = leading();
        order.register(11);
        order.register(12);
        order.committed(12, records());
        assert_eq!(sent(&mut order), [0_i64; 0]);
        order.committed(11, records());
        assert_eq!(sent(&mut order), [11, 12]);
    }

    #[test]
    fn a_rollback_leaves_no_hole() {
        let mut order = leading();
        order.register(11);
        order.rolled_back(11);
        order.register(12);
        order.committed(12, records());
        assert_eq!(sent(&mut order), [12]);
    }

    #[test]
    fn a_hole_is_cleared_by_a_snapshot_that_shows_what_must_go_first() {
        let mut order = leading();
        order.register(12);
        order.committed(12, records());
        assert_eq!(sent(&mut order), [0_i64; 0]);
        assert!(order.wants_snapshot());
        let begun = order.begin_snapshot();
        order.snapshot(begun, vec![(11, records()), (12, records())], true);
        assert_eq!(sent(&mut order), [11, 12]);
    }

    #[test]
    fn a_late_lower_unit_is_sent_when_it_shows() {
        let mut order = leading();
        order.register(12);
        order.committed(12, records());
        let begun = order.begin_snapshot();
        order.snapshot(begun, vec![(12, records())], true);
        assert_eq!(sent(&mut order), [12]);
        let begun = order.begin_snapshot();
        order.snapshot(begun, vec![(11, records()), (12, records())], true);
        assert_eq!(sent(&mut order), [11]);
    }

    #[test]
    fn a_unit_seen_in_a_snapshot_is_not_sent_twice() {
        let mut order = leading();
        order.register(11);
        let begun = order.begin_snapshot();
        order.snapshot(begun, vec![(11, records())], true);
        assert_eq!(sent(&mut order), [11]);
        order.committed(11, records());
        order.cleared(11);
        order.committed(11, records());
        assert_eq!(sent(&mut order), [0_i64; 0]);
    }

    #[test]
    fn after_a_failure_the_lowest_unacknowledged_goes_first() {
        let mut order = leading();
        for seq in 11..14 {
            order.register(seq);
            order.committed(seq, records());
        }
        assert_eq!(sent(&mut order), [11, 12, 13]);
        order.cleared(10);
        order.cleared(12);
        order.resume();
        assert_eq!(sent(&mut order), [11, 13]);
    }

    #[test]
    fn a_backlog_stays_in_the_outbox() {
        let mut order = Order::new(4);
        for seq in 1..=10 {
            order.register(seq);
            order.committed(seq, records());
        }
        assert!(order.wants_snapshot());
        let begun = order.begin_snapshot();
        order.snapshot(begun, (1..=3).map(|seq| (seq, records())).collect(), false);
        assert_eq!(sent(&mut order), [1, 2, 3]);
        for seq in 1..=3 {
            order.cleared(seq);
        }
        assert!(order.wants_snapshot());
        let begun = order.begin_snapshot();
        order.snapshot(begun, (4..=10).map(|seq| (seq, records())).collect(), true);
        assert_eq!(sent(&mut order), (4..=10).collect::<Vec<_>>());
        assert!(!order.is_idle());
    }
}
