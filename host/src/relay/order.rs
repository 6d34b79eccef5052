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

use crate::model::record::Record;

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
    leading: bool,
    /// No other host commits here: every number is registered in this order.
    alone: bool,
    /// Alone, the lowest number of which nothing is known yet.
    expected: i64,
    /// Up to here a snapshot has shown everything that may have to go first.
    cleared: i64,
    /// Ready units are kept in memory up to this many; beyond, they are read again from the outbox.
    ready_max: usize,
    /// Something that is ready is only in the outbox.
    overflown: bool,
    /// Something was left to the outbox since the last snapshot began.
    dropped: bool,
}

impl Order {
    /// Nothing known yet, and not leading.
    #[must_use]
    pub fn new(ready_max: usize) -> Self {
        Self {
            units: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            leading: false,
            alone: false,
            expected: i64::MIN,
            cleared: i64::MIN,
            ready_max,
            overflown: false,
            dropped: false,
        }
    }

    /// This host publishes from now on. Only COMMITs that are under way are known yet.
    pub fn lead(&mut self) {
        self.follow();
        self.leading = true;
    }

    /// Another host publishes from now on: what is committed is in the outbox.
    pub fn follow(&mut self) {
        let registered = std::mem::take(&mut self.units)
            .into_iter()
            .filter(|(_, state)| matches!(state, State::Registered));
        *self = Self { units: registered.collect(), ..Self::new(self.ready_max) };
    }

    /// Whether other hosts commit to this outbox, too.
    pub fn set_alone(&mut self, alone: bool) {
        if alone && !self.alone {
            self.expected = i64::MIN;
        }
        self.alone = alone;
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
            if self.overflown || !self.leading {
                self.dropped = true;
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
        if self.leading {
            self.units.entry(seq).and_modify(|state| *state = State::RolledBack);
        } else {
            self.units.remove(&seq);
        }
    }

    /// Nobody knows what became of that unit: the outbox will tell.
    pub fn unknown(&mut self, seq: i64) {
        self.units.remove(&seq);
    }

    /// Up to here units may leave without another look at the outbox. Other hosts' numbers are not
    /// registered here, so a hole may fill at any time, and what comes after it may depend on it.
    fn open_up_to(&self) -> i64 {
        if self.alone { self.expected.max(self.cleared) } else { self.cleared }
    }

    /// True when the next unit can only leave after a look at the outbox.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        match self.units.first_key_value() {
            Some((seq, State::Ready(_))) => *seq > self.open_up_to(),
            Some(_) => false,
            None => self.overflown && self.in_flight.len() < self.ready_max / 2,
        }
    }

    /// Call before the outbox is read; the answer goes to [`Order::snapshot`].
    pub fn begin_snapshot(&mut self) -> i64 {
        self.dropped = false;
        let ready = self.units.iter().rev().find(|(_, state)| matches!(state, State::Ready(_)));
        ready.map_or(i64::MIN, |(seq, _)| *seq)
    }

    /// The unpublished units by `seq`; `complete` is false when there were more than were read: then
    /// nothing is known of what lies above the last of them.
    pub fn snapshot(&mut self, begun_at: i64, rows: Vec<(i64, Records)>, complete: bool) {
        let last = rows.last().map_or(i64::MIN, |(seq, _)| *seq);
        for (seq, records) in rows {
            if self.in_flight.contains_key(&seq) {
                continue;
            }
            self.units.insert(seq, State::Ready(records));
        }
        if complete {
            self.cleared = self.cleared.max(last).max(begun_at);
            self.overflown = self.dropped;
        } else {
            self.cleared = self.cleared.max(last);
            self.overflow(last);
        }
    }

    /// Drops from memory what lies above `kept`; the outbox still has it.
    fn overflow(&mut self, kept: i64) {
        self.overflown = true;
        self.dropped = true;
        self.units.retain(|seq, state| *seq <= kept || !matches!(state, State::Ready(_)));
    }

    /// The next unit to send, now in flight.
    pub fn take_next(&mut self) -> Option<(i64, Records)> {
        loop {
            let limit = self.open_up_to();
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
                State::Ready(_) if seq > limit => return None,
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
mod tests;
