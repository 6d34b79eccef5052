//! Whether the records of a lane are in their topics in the order in which the lane wrote them.
//!
//! A record's id is its place: `IDENTITY:slot:epoch:unit:index`. In each partition, the records of one
//! database and slot are in the order of the other three numbers. A record that the relay sends again has the
//! id of the first one.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;

use saga_testkit::service::TOPICS;
use saga_testkit::topic::{Record, blocking, reader};

const HOST_SOURCE: &str = "/saga-host/";
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
    /// Reads all topics.
    pub(super) async fn read(brokers: &str) -> Result<Self> {
        let brokers = brokers.to_owned();
        blocking(move || {
            let mut sequence = Self::default();
            reader::read_all(&brokers, &TOPICS, |record| sequence.add(&record))?;
            Ok(sequence)
        })
        .await
    }

    /// Adds one record. The caller passes those of a partition in order.
    fn add(&mut self, record: &Record) {
        let ours = record.header("ce_source").is_some_and(|source| source.starts_with(HOST_SOURCE));
        let Some((lane, place)) = record.header("ce_id").filter(|_| ours).and_then(split) else { return };
        let lane = hash(&(&record.topic, record.partition, lane));
        if !self.seen.insert(hash(&(lane, place))) {
            self.repeated += 1;
            return;
        }
        let highest = self.highest.entry(lane).or_insert(place);
        if place < *highest {
            self.reordered += 1;
            if self.offenders.len() < SHOWN {
                let Record { topic, partition, offset, .. } = record;
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
    use super::Sequence;
    use saga_testkit::topic::Record;

    fn record(topic: &str, source: &str, id: &str) -> Record {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            key: None,
            value: None,
            headers: vec![header("ce_id", id), header("ce_source", source)],
        }
    }

    #[test]
    fn a_new_record_below_the_highest_of_its_lane_is_reordered() {
        let ours = "/saga-host/db/plugin";
        for (ids, reordered, repeated) in [
            (&["db:1:1:1:0", "db:1:1:1:1", "db:1:1:2:0", "db:1:2:1:0"][..], 0, 0),
            (&["db:1:1:9:0", "db:1:1:10:0"], 0, 0),
            (&["db:1:1:2:0", "db:2:1:1:0", "other:1:1:1:0"], 0, 0),
            (&["db:1:1:1:0", "db:1:1:2:0", "db:1:1:1:0", "db:1:1:2:0"], 0, 2),
            (&["db:1:1:2:0", "db:1:1:1:0"], 1, 0),
            (&["db:1:2:1:0", "db:1:1:7:0", "db:1:1:8:0"], 2, 0),
            (&["db:1:1:1:1", "db:1:1:1:0"], 1, 0),
        ] {
            let mut sequence = Sequence::default();
            ids.iter().for_each(|id| sequence.add(&record("t", ours, id)));
            assert_eq!((sequence.reordered, sequence.repeated), (reordered, repeated), "{ids:?}");
        }
    }

    #[test]
    fn topics_are_apart_and_foreign_records_left_out() {
        let mut sequence = Sequence::default();
        sequence.add(&record("t", "/saga-host/db/p", "db:1:1:2:0"));
        sequence.add(&record("u", "/saga-host/db/p", "db:1:1:1:0"));
        sequence.add(&record("t", "/other", "db:1:1:1:0"));
        sequence.add(&record("t", "/saga-host/db/p", "no place"));
        assert_eq!((sequence.reordered, sequence.repeated), (0, 0));
    }
}
