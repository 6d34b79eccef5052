//! Whether the records of a lane are in their topics in the order in which the lane wrote them.
//!
//! A record's id is its place: `IDENTITY:slot:epoch:unit:index`. In each partition, the records of one
//! database and slot are in the order of the other three numbers. A record that the relay sends again has the
//! id of the first one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::archive::Archived;

const SHOWN: usize = 5;

/// Epoch, unit and index.
type Place = [u64; 3];

/// Follows every lane in every partition.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The highest place so far, by the hash of partition, database and slot.
    highest: HashMap<u64, Place>,
    seen: HashSet<u64>,
    /// Records that come after a later one of their lane.
    pub(super) reordered: u64,
    /// Records that come again.
    pub(super) repeated: u64,
    /// The first reordered records.
    pub(super) offenders: Vec<String>,
}

impl Sequence {
    /// Follows all records, those of a partition in order.
    pub(super) fn of<'a>(records: impl Iterator<Item = &'a Archived>) -> Self {
        let mut sequence = Self::default();
        records.for_each(|record| sequence.add(record));
        sequence
    }

    fn add(&mut self, record: &Archived) {
        let Some((lane, place)) = record.id.as_deref().filter(|_| record.ours).and_then(split) else {
            return;
        };
        let lane = hash(&(&record.topic, record.partition, lane));
        if !self.seen.insert(hash(&(lane, place))) {
            self.repeated += 1;
            return;
        }
        let highest = self.highest.entry(lane).or_insert(place);
        if place < *highest {
            self.reordered += 1;
            if self.offenders.len() < SHOWN {
                let Archived { topic, partition, offset, .. } = record;
                self.offenders.push(format!("{topic}/{partition}/{offset}: {place:?} after {highest:?}"));
            }
        }
        *highest = place.max(*highest);
    }
}

/// Splits an id into the lane and the place in it.
fn split(id: &str) -> Option<(&str, Place)> {
    let mut parts = id.rsplitn(4, ':');
    let mut number = || parts.next()?.parse().ok();
    let (index, unit, epoch) = (number()?, number()?, number()?);
    Some((parts.next()?, [epoch, unit, index]))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Archived, Sequence};

    fn record(topic: &str, ours: bool, id: &str) -> Archived {
        Archived { topic: topic.to_owned(), ours, id: Some(id.to_owned()), ..Archived::default() }
    }

    #[test]
    fn a_new_record_below_the_highest_of_its_lane_is_reordered() {
        for (ids, reordered, repeated) in [
            (&["db:1:1:1:0", "db:1:1:1:1", "db:1:1:2:0", "db:1:2:1:0"][..], 0, 0),
            (&["db:1:1:9:0", "db:1:1:10:0"], 0, 0),
            (&["db:1:1:2:0", "db:2:1:1:0", "other:1:1:1:0"], 0, 0),
            (&["db:1:1:1:0", "db:1:1:2:0", "db:1:1:1:0", "db:1:1:2:0"], 0, 2),
            (&["db:1:1:2:0", "db:1:1:1:0"], 1, 0),
            (&["db:1:2:1:0", "db:1:1:7:0", "db:1:1:8:0"], 2, 0),
            (&["db:1:1:1:1", "db:1:1:1:0"], 1, 0),
        ] {
            let records: Vec<_> = ids.iter().map(|id| record("t", true, id)).collect();
            let sequence = Sequence::of(records.iter());
            assert_eq!((sequence.reordered, sequence.repeated), (reordered, repeated), "{ids:?}");
        }
    }

    #[test]
    fn topics_are_apart_and_foreign_records_left_out() {
        let records = [
            record("t", true, "db:1:1:2:0"),
            record("u", true, "db:1:1:1:0"),
            record("t", false, "db:1:1:1:0"),
            record("t", true, "no place"),
        ];
        let sequence = Sequence::of(records.iter());
        assert_eq!((sequence.reordered, sequence.repeated), (0, 0));
    }
}
