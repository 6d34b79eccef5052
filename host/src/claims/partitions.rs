//! The partitions that a host has claimed for one plugin, as its consumer and its lane share them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::partition::Source;
use crate::model::dedup::Seen;

/// A partition's name.
pub type Place = (Arc<str>, i32);

/// The claimed partitions of one plugin.
#[derive(Debug, Default)]
pub struct Sources {
    claimed: Mutex<HashMap<Place, Source>>,
    lost: Mutex<Vec<Place>>,
}

/// Where a partition stands after a committed unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Topic and partition.
    pub place: Place,
    /// Of the claim under which it was handled.
    pub epoch: i64,
    /// The next record to handle.
    pub next_offset: i64,
    /// The high-water marks.
    pub seen: Seen,
    /// Keys of deliveries that are held since.
    pub held: Vec<String>,
    /// Keys of held deliveries that are done with.
    pub freed: Vec<String>,
}

impl Sources {
    /// Adds a claimed partition, or one claimed anew.
    pub fn insert(&self, source: Source) {
        self.claimed.lock().insert((source.topic.clone(), source.partition), source);
    }

    /// Forgets partitions that Kafka gave to another host.
    pub fn remove(&self, places: &[Place]) {
        let mut claimed = self.claimed.lock();
        for place in places {
            claimed.remove(place);
        }
    }

    /// Forgets a partition that another host has claimed; the consumer claims it again if Kafka
    /// still gives it to this host.
    pub fn lose(&self, place: Place) {
        self.claimed.lock().remove(&place);
        self.lost.lock().push(place);
    }

    /// The partitions lost since the last call.
    pub fn take_lost(&self) -> Vec<Place> {
        std::mem::take(&mut self.lost.lock())
    }

    /// Looks at all of them while nobody changes them.
    pub fn with<T>(&self, look: impl FnOnce(&HashMap<Place, Source>) -> T) -> T {
        look(&self.claimed.lock())
    }

    /// Notes what a committed unit did; nothing for partitions claimed anew meanwhile.
    pub fn advance(&self, advances: Vec<Advance>) {
        let mut claimed = self.claimed.lock();
        for advance in advances {
            let Some(source) = claimed.get_mut(&advance.place) else { continue };
            if source.epoch != advance.epoch {
                continue;
            }
            source.next_offset = advance.next_offset;
            source.seen = advance.seen;
            for key in advance.held {
                *source.held.entry(key).or_default() += 1;
            }
            for key in advance.freed {
                if let Some(count) = source.held.get_mut(&key) {
                    *count = count.saturating_sub(1);
                }
            }
            source.held.retain(|_, count| *count > 0);
        }
    }

    /// Replaces what is known of a partition's held keys.
    pub fn set_held(&self, place: &Place, epoch: i64, held: HashMap<String, u32>) {
        if let Some(source) = self.claimed.lock().get_mut(place).filter(|source| source.epoch == epoch) {
            source.held = held;
        }
    }

    /// Where each stands: topic, partition, next record.
    #[must_use]
    pub fn positions(&self) -> Vec<(Arc<str>, i32, i64)> {
        let claimed = self.claimed.lock();
        claimed.values().map(|source| (source.topic.clone(), source.partition, source.next_offset)).collect()
    }
}
