//! Decides in which order committed units are sent. Pure bookkeeping over `seq`: no database, no Kafka.
//!
//! A unit takes its `seq` last and inside its transaction. So of two units that touch the same rows the later
//! has the higher `seq`, and a transaction that sees it committed sees the earlier one, too.
//!
//! This host registers its units before their COMMIT and passes their records in memory. Units that other
//! hosts commit are found in a snapshot of the outbox. A missing number is a rollback or another host's unit:
//! a snapshot that is taken after the higher unit has committed shows which.
//!
//! A crash of the server makes the sequence forget the numbers of units that it has not committed, and it
//! issues them again. So a registration is that of a unit, not of a number: what a lane reports about its unit
//! says nothing about a later unit with the same number.

use std::{
    collections::{
        BTreeMap,
        btree_map::{Entry, OccupiedEntry},
    },
    sync::Arc,
};

use crate::{
    model::record::Record,
    sabotage::{self, Switch},
};

/// The records of one unit.
pub type Records = Arc<Vec<Record>>;

/// Slot, epoch and unit number of a lane: no two units are alike.
pub type LaneUnit = (i32, i64, i64);

/// Their approximate size in memory.
pub(super) fn bytes_of(records: &Records) -> usize {
    records.iter().map(Record::size).sum()
}

/// What is kept in memory of the committed units, at most. The others are read again from the outbox.
#[derive(Clone, Copy, Debug)]
pub struct ReadyMax {
    /// Number of units.
    pub units: usize,
    /// Their approximate size. A single unit may exceed it.
    pub bytes: usize,
}

#[derive(Debug)]
enum UnitState {
    /// The COMMIT of this unit is under way.
    Registered(LaneUnit),
    /// Committed, and can be sent when its turn comes. With its size in bytes.
    Ready(Records, usize),
    RolledBack,
}

impl UnitState {
    fn bytes(&self) -> usize {
        if let Self::Ready(_, bytes) = self { *bytes } else { 0 }
    }
}

/// The units that are committed and not yet acknowledged by Kafka, as far as this host knows.
#[derive(Debug)]
pub struct SendOrder {
    units: BTreeMap<i64, UnitState>,
    in_flight: BTreeMap<i64, Records>,
    leading: bool,
    /// Other hosts commit to this outbox. Without them every number is registered here.
    has_peers: bool,
    /// Without peers: the lowest number of which nothing is known yet.
    next_seq: i64,
    /// Up to this number a snapshot has shown everything that may have to be sent first.
    snapshot_up_to: i64,
    max: ReadyMax,
    /// Of the units that are ready.
    ready_bytes: usize,
    /// Some committed units are in the outbox only.
    overflowed: bool,
    /// Units were left to the outbox since the last snapshot started.
    dropped: bool,
}

impl SendOrder {
    /// An empty order of a host that does not lead. It keeps `max` in memory.
    #[must_use]
    pub fn new(max: ReadyMax) -> Self {
        Self {
            units: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            leading: false,
            has_peers: true,
            next_seq: i64::MIN,
            snapshot_up_to: i64::MIN,
            max,
            ready_bytes: 0,
            overflowed: false,
            dropped: false,
        }
    }

    /// This host publishes from now on. It starts with the units whose COMMIT is under way.
    pub fn lead(&mut self) {
        self.follow();
        self.leading = true;
    }

    /// Another host publishes from now on, and finds the committed units in the outbox.
    pub fn follow(&mut self) {
        let registered = std::mem::take(&mut self.units)
            .into_iter()
            .filter(|(_, state)| matches!(state, UnitState::Registered(_)));
        *self = Self { units: registered.collect(), ..Self::new(self.max) };
    }

    /// Whether other hosts commit to this outbox, too.
    pub fn set_has_peers(&mut self, has_peers: bool) {
        if !has_peers && self.has_peers {
            self.next_seq = i64::MIN;
        }
        self.has_peers = has_peers;
    }

    /// A unit of this host has taken its number and is about to commit. It replaces an earlier one with the
    /// same number, which cannot have committed.
    pub fn register(&mut self, seq: i64, unit: LaneUnit) {
        let before = self.units.insert(seq, UnitState::Registered(unit));
        self.ready_bytes -= before.map_or(0, |state| state.bytes());
    }

    /// The server may have crashed and issue numbers again, so nothing is known of lower ones: the next unit
    /// is sent only after another snapshot.
    pub fn distrust_numbers(&mut self) {
        self.next_seq = i64::MIN;
        self.snapshot_up_to = i64::MIN;
    }

    /// The entry of a unit, only while it is registered: a snapshot may have shown it, and it may be sent by
    /// now, or its number is that of another unit.
    fn registered(&mut self, seq: i64, unit: LaneUnit) -> Option<OccupiedEntry<'_, i64, UnitState>> {
        let Entry::Occupied(entry) = self.units.entry(seq) else { return None };
        matches!(entry.get(), UnitState::Registered(registered) if *registered == unit).then_some(entry)
    }

    /// A registered unit has committed.
    pub fn committed(&mut self, seq: i64, unit: LaneUnit, records: Records) {
        let keeps = self.leading && !self.overflowed;
        match self.registered(seq, unit) {
            Some(mut entry) if keeps => {
                let bytes = bytes_of(&records);
                entry.insert(UnitState::Ready(records, bytes));
                self.ready_bytes += bytes;
            }
            Some(entry) => {
                entry.remove();
                self.dropped = true;
            }
            None => {}
        }
        if self.units.len() > self.max.units || self.ready_bytes > self.max.bytes {
            self.overflow(i64::MIN);
        }
    }

    /// A registered unit has rolled back.
    pub fn rolled_back(&mut self, seq: i64, unit: LaneUnit) {
        let leading = self.leading;
        match self.registered(seq, unit) {
            Some(mut entry) if leading => drop(entry.insert(UnitState::RolledBack)),
            Some(entry) => drop(entry.remove()),
            None => {}
        }
    }

    /// It is unknown whether a registered unit has committed: if so, a snapshot of the outbox shows it.
    pub fn commit_unknown(&mut self, seq: i64, unit: LaneUnit) {
        if let Some(entry) = self.registered(seq, unit) {
            entry.remove();
        }
    }

    /// Up to this number units can be sent without another snapshot. Other hosts' numbers are not registered
    /// here, so a gap may fill at any time, and what comes after it may depend on it.
    fn sendable_up_to(&self) -> i64 {
        if self.has_peers { self.snapshot_up_to } else { self.next_seq.max(self.snapshot_up_to) }
    }

    /// Whether the next unit can only be sent after a snapshot of the outbox.
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        match self.units.first_key_value() {
            Some((seq, UnitState::Ready(..))) => *seq > self.sendable_up_to(),
            Some(_) => false,
            None => self.overflowed && self.in_flight.len() < self.max.units / 2,
        }
    }

    /// Call before the outbox is read; pass the answer to [`SendOrder::snapshot`].
    pub fn begin_snapshot(&mut self) -> i64 {
        self.dropped = false;
        let ready = self.units.iter().rev().find(|(_, state)| matches!(state, UnitState::Ready(..)));
        ready.map_or(i64::MIN, |(seq, _)| *seq)
    }

    /// Adds the units of a snapshot, which are sorted by `seq`. `complete` is false when the outbox has more
    /// of them: then nothing is known of the numbers above the last one.
    pub fn snapshot(&mut self, started_at: i64, rows: Vec<(i64, Records)>, complete: bool) {
        let last = rows.last().map_or(i64::MIN, |(seq, _)| *seq);
        for (seq, records) in rows {
            if self.in_flight.contains_key(&seq) {
                continue;
            }
            let bytes = bytes_of(&records);
            let before = self.units.insert(seq, UnitState::Ready(records, bytes));
            self.ready_bytes += bytes;
            self.ready_bytes -= before.map_or(0, |state| state.bytes());
        }
        if complete {
            self.snapshot_up_to = self.snapshot_up_to.max(last).max(started_at);
            self.overflowed = self.dropped;
        } else {
            self.snapshot_up_to = self.snapshot_up_to.max(last);
            self.overflow(last);
        }
    }

    /// Drops from memory the units above `keep_up_to`; the outbox still has them.
    fn overflow(&mut self, keep_up_to: i64) {
        self.overflowed = true;
        self.dropped = true;
        self.units.retain(|seq, state| *seq <= keep_up_to || !matches!(state, UnitState::Ready(..)));
        self.ready_bytes = self.units.values().map(UnitState::bytes).sum();
    }

    /// Takes the next unit to send, which is in flight from now on.
    pub fn take_next(&mut self) -> Option<(i64, Records)> {
        loop {
            let limit = self.sendable_up_to();
            let newest_first = sabotage::on(Switch::OrderNotKept);
            let first = if newest_first { self.units.last_entry() } else { self.units.first_entry() }?;
            let seq = *first.key();
            match first.get() {
                UnitState::Registered(_) => return None,
                UnitState::RolledBack => {
                    first.remove();
                    if seq == self.next_seq {
                        self.next_seq += 1;
                    }
                }
                UnitState::Ready(..) if seq > limit => return None,
                UnitState::Ready(..) => {
                    let UnitState::Ready(records, bytes) = first.remove() else { return None };
                    self.ready_bytes -= bytes;
                    self.next_seq = self.next_seq.max(seq + 1);
                    self.in_flight.insert(seq, records.clone());
                    return Some((seq, records));
                }
            }
        }
    }

    /// Kafka has acknowledged all records of a unit, and its outbox row is deleted.
    pub fn acknowledged(&mut self, seq: i64) {
        self.in_flight.remove(&seq);
    }

    /// The units in flight, lowest first: what a new Kafka client has to send.
    #[must_use]
    pub fn in_flight_units(&self) -> Vec<(i64, Records)> {
        self.in_flight.iter().map(|(seq, records)| (*seq, records.clone())).collect()
    }

    /// The numbers of the units in flight, lowest first.
    #[must_use]
    pub fn in_flight_seqs(&self) -> Vec<i64> {
        self.in_flight.keys().copied().collect()
    }

    /// The records of a unit in flight.
    #[must_use]
    pub fn in_flight_records(&self, seq: i64) -> Option<Records> {
        self.in_flight.get(&seq).cloned()
    }

    /// Whether nothing is left to send or to be acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.units.is_empty() && self.in_flight.is_empty() && !self.overflowed
    }
}

#[cfg(test)]
mod tests;
