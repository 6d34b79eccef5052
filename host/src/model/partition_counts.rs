//! How many partitions each topic has that a database publishes to. All hosts of the database agree on it,
//! so that they route a key to the same partition: see [`crate::claims`].

use std::collections::HashMap;

use parking_lot::RwLock;

/// What the hosts have agreed on for one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgreedCount {
    /// Number of its partitions.
    pub partitions: i32,
    /// Raised by every change.
    pub version: i64,
}

/// The agreed counts by topic, shared by the lanes of a database.
#[derive(Debug, Default)]
pub struct PartitionCounts(RwLock<HashMap<String, AgreedCount>>);

impl PartitionCounts {
    /// The number of partitions of a topic; 1 while nothing is agreed.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> i32 {
        self.get(topic).map_or(1, |agreed| agreed.partitions)
    }

    /// What is agreed on for a topic.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<AgreedCount> {
        self.0.read().get(topic).copied()
    }

    /// The topics.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.0.read().keys().cloned().collect()
    }

    /// Replaces what is known of a topic, unless something newer is known.
    pub fn set(&self, topic: &str, agreed: AgreedCount) {
        let mut counts = self.0.write();
        match counts.get_mut(topic) {
            Some(known) if known.version > agreed.version => {}
            Some(known) => *known = agreed,
            None => drop(counts.insert(topic.to_owned(), agreed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AgreedCount, PartitionCounts};

    #[test]
    fn an_older_agreement_does_not_replace_a_newer_one() {
        let counts = PartitionCounts::default();
        assert_eq!(counts.partitions("t"), 1);
        for (partitions, version, known) in [(6, 1, 6), (12, 2, 12), (6, 1, 12), (3, 3, 3)] {
            counts.set("t", AgreedCount { partitions, version });
            assert_eq!(counts.partitions("t"), known);
        }
    }
}
