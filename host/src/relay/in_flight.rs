//! The records that are on their way to Kafka, by unit. Pure bookkeeping: no database, no Kafka.
//!
//! A unit stays here until each of its records is acknowledged or parked, also while the Kafka client is
//! replaced: the next client sends only what is missing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::sabotage::{self, Switch};

/// Topic and partition.
pub(super) type Place = (String, i32);

/// Orders the records of a database: by unit, then by index in the unit.
pub(super) fn position(seq: i64, index: usize) -> i64 {
    (seq << 16) | i64::try_from(index & 0xffff).unwrap_or(0)
}

/// Unit and index of a [`position`].
pub(super) fn unit_and_index(position: i64) -> (i64, usize) {
    (position >> 16, usize::try_from(position & 0xffff).unwrap_or(0))
}

/// Which records of a unit are missing, one bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing(Vec<u64>);

impl Missing {
    fn new(records: usize, is_parked: impl Fn(usize) -> bool) -> Self {
        let mut missing = Self(vec![0; records.div_ceil(64)]);
        for index in (0..records).filter(|index| !is_parked(*index)) {
            if let Some(bits) = missing.0.get_mut(index / 64) {
                *bits |= 1 << (index % 64);
            }
        }
        missing
    }

    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }

    fn remove(&mut self, index: usize) {
        if let Some(bits) = self.0.get_mut(index / 64) {
            *bits &= !(1 << (index % 64));
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|index| self.contains(*index))
    }

    fn count(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }
}

#[derive(Debug)]
struct UnitInFlight {
    missing: Missing,
    /// The number of missing records.
    count: usize,
    bytes: usize,
    sent_at: Instant,
}

/// A partition that did not accept a record of the batching client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FailedPlace {
    /// The first error.
    pub(super) reason: String,
    /// Whether nothing is wrong with the records.
    pub(super) passing: bool,
    pub(super) too_large: bool,
    /// The highest record that has failed.
    pub(super) last: i64,
}

/// The units in flight and what Kafka has answered about them.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    units: BTreeMap<i64, UnitInFlight>,
    records: usize,
    bytes: usize,
    answered_at: Option<Instant>,
    acknowledged: Vec<i64>,
    total_wait: Duration,
    failed: HashMap<Place, FailedPlace>,
    /// Why the batching client must be replaced.
    broken: Option<String>,
}

impl InFlight {
    /// A unit is about to be sent, without its parked records. Returns the indexes that are missing when it
    /// has been sent before; none when it is new.
    pub(super) fn begin(
        &mut self,
        seq: i64,
        (records, bytes): (usize, usize),
        is_parked: impl Fn(usize) -> bool,
    ) -> Option<Vec<usize>> {
        if let Some(unit) = self.units.get_mut(&seq) {
            unit.sent_at = Instant::now();
            return Some((0..records).filter(|index| unit.missing.contains(*index)).collect());
        }
        let missing = Missing::new(records, is_parked);
        let count = missing.count();
        if count == 0 {
            self.acknowledged.push(seq);
            return None;
        }
        self.records += count;
        self.bytes += bytes;
        self.units.insert(seq, UnitInFlight { missing, count, bytes, sent_at: Instant::now() });
        self.acknowledged.extend(sabotage::on(Switch::ClearedBeforeAcknowledged).then_some(seq));
        None
    }

    /// Kafka has acknowledged a record. Returns whether its unit is now complete.
    pub(super) fn acknowledge(&mut self, seq: i64, index: usize) -> bool {
        self.answered_at = Some(Instant::now());
        self.complete(seq, index)
    }

    /// A record is acknowledged or parked. Completing it again changes nothing. Returns whether its unit is now
    /// complete.
    pub(super) fn complete(&mut self, seq: i64, index: usize) -> bool {
        let Some(unit) = self.units.get_mut(&seq).filter(|unit| unit.missing.contains(index)) else {
            return false;
        };
        unit.missing.remove(index);
        unit.count -= 1;
        self.records -= 1;
        if unit.count > 0 {
            return false;
        }
        self.total_wait += unit.sent_at.elapsed();
        self.bytes -= unit.bytes;
        self.units.remove(&seq);
        self.acknowledged.push(seq);
        true
    }

    /// The batching client could not deliver a record of a partition.
    pub(super) fn fail(&mut self, place: Place, failed: FailedPlace) {
        self.broken
            .get_or_insert_with(|| format!("{} (topic {}, partition {})", failed.reason, place.0, place.1));
        self.failed
            .entry(place)
            .and_modify(|earlier| {
                earlier.last = earlier.last.max(failed.last);
                earlier.too_large |= failed.too_large;
            })
            .or_insert(failed);
    }

    /// The batching client has given up.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.broken.get_or_insert_with(|| reason.to_owned());
    }

    /// Why the batching client must be replaced, if so.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Call when the batching client was replaced: the partitions that did not accept a record.
    pub(super) fn take_failed(&mut self) -> HashMap<Place, FailedPlace> {
        self.broken = None;
        std::mem::take(&mut self.failed)
    }

    /// The units that were completed since the last call, and their times since they were sent, added up.
    pub(super) fn take_acknowledged(&mut self) -> (Vec<i64>, Duration) {
        (std::mem::take(&mut self.acknowledged), std::mem::take(&mut self.total_wait))
    }

    /// Records that are missing.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The approximate size of the units with missing records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest missing record when its unit was sent at least this long ago, and when that was.
    pub(super) fn overdue(&self, at_least: Duration) -> Option<(i64, Instant)> {
        let (seq, unit) = self.units.first_key_value()?;
        let index = unit.missing.iter().next()?;
        (unit.sent_at.elapsed() >= at_least).then(|| (position(*seq, index), unit.sent_at))
    }

    /// All missing records whose units were sent at least this long ago, by unit.
    pub(super) fn all_overdue(&self, at_least: Duration) -> Vec<(i64, Vec<usize>)> {
        let overdue = self.units.iter().filter(|(_, unit)| unit.sent_at.elapsed() >= at_least);
        overdue.map(|(seq, unit)| (*seq, unit.missing.iter().collect())).collect()
    }

    /// Whether Kafka has acknowledged nothing for at least this long.
    pub(super) fn is_silent(&self, at_least: Duration) -> bool {
        self.answered_at.is_none_or(|answered| answered.elapsed() >= at_least)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FailedPlace, InFlight, position, unit_and_index};

    #[test]
    fn a_position_is_a_unit_and_an_index() {
        for (seq, index) in [(0, 0), (1, 4095), (1 << 46, 65_535)] {
            assert_eq!(unit_and_index(position(seq, index)), (seq, index));
        }
        assert!(position(7, 65_535) < position(8, 0));
    }

    #[test]
    fn a_unit_is_complete_when_each_record_is_acknowledged_or_parked() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.begin(5, (70, 1_000), |index| index == 3), None);
        assert_eq!((in_flight.records(), in_flight.bytes()), (69, 1_000));
        for index in (0..69).chain(0..69) {
            assert!(!in_flight.acknowledge(5, index));
        }
        assert_eq!(in_flight.begin(5, (70, 1_000), |_| false), Some(vec![69]));
        assert_eq!(in_flight.take_acknowledged().0, [0_i64; 0]);
        assert!(in_flight.complete(5, 69) && !in_flight.complete(5, 69));
        assert_eq!(in_flight.take_acknowledged().0, [5]);
        assert_eq!((in_flight.records(), in_flight.bytes()), (0, 0));
    }

    #[test]
    fn a_unit_whose_records_are_all_parked_is_complete_at_once() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.begin(5, (2, 9), |_| true), None);
        assert_eq!(in_flight.take_acknowledged().0, [5]);
    }

    #[test]
    fn what_is_overdue_is_named_by_the_lowest_missing_record() {
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.overdue(Duration::ZERO), None);
        in_flight.begin(8, (1, 1), |_| false);
        in_flight.begin(7, (3, 1), |index| index == 0);
        assert!(in_flight.is_silent(Duration::from_secs(3_600)));
        in_flight.acknowledge(7, 1);
        assert!(!in_flight.is_silent(Duration::from_secs(3_600)));
        assert_eq!(in_flight.overdue(Duration::ZERO).map(|(lowest, _)| lowest), Some(position(7, 2)));
        assert_eq!(in_flight.all_overdue(Duration::ZERO), [(7, vec![2]), (8, vec![0])]);
        assert_eq!(in_flight.overdue(Duration::from_secs(3_600)), None);
    }

    #[test]
    fn the_failures_of_a_partition_are_one() {
        let mut in_flight = InFlight::default();
        let failed = |last, reason: &str| FailedPlace {
            reason: reason.to_owned(),
            passing: false,
            too_large: false,
            last,
        };
        in_flight.fail(("t".to_owned(), 1), failed(9, "first"));
        in_flight.fail(("t".to_owned(), 1), failed(7, "second"));
        assert_eq!(in_flight.broken(), Some("first (topic t, partition 1)"));
        assert_eq!(in_flight.take_failed(), [(("t".to_owned(), 1), failed(9, "first"))].into());
        assert_eq!(in_flight.broken(), None);
    }
}
