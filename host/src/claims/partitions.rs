//! The partitions that a host has claimed for one plugin, shared by its consumer and its lane.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::partition::PartitionClaim;
use crate::model::dedup::DedupMarks;

/// Topic and partition.
pub type TopicPartition = (Arc<str>, i32);

/// The claimed partitions of one plugin.
#[derive(Debug, Default)]
pub struct PartitionClaims {
    claimed: Mutex<HashMap<TopicPartition, PartitionClaim>>,
    lost: Mutex<Vec<TopicPartition>>,
}

/// What a committed unit changes in a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAdvance {
    /// Topic and partition.
    pub place: TopicPartition,
    /// Of the claim under which the unit ran.
    pub epoch: i64,
    /// The next record to handle.
    pub next_offset: i64,
    /// The high-water marks.
    pub dedup_marks: DedupMarks,
    /// Keys of deliveries that the unit parked.
    pub parked: Vec<String>,
    /// Keys of parked deliveries that the unit handled.
    pub freed: Vec<String>,
}

impl PartitionClaims {
    /// Adds a claimed partition, or replaces an earlier claim of it.
    pub fn insert(&self, claim: PartitionClaim) {
        self.claimed.lock().insert((claim.topic.clone(), claim.partition), claim);
    }

    /// Removes partitions that Kafka has assigned to another host.
    pub fn remove(&self, places: &[TopicPartition]) {
        let mut claimed = self.claimed.lock();
        for place in places {
            claimed.remove(place);
        }
    }

    /// Removes all partitions: they are claimed again before they are read.
    pub fn remove_all(&self) {
        self.claimed.lock().clear();
        self.lost.lock().clear();
    }

    /// Removes a partition that another host has claimed. The consumer claims it again when Kafka still
    /// assigns it to this host.
    pub fn lose(&self, place: TopicPartition) {
        if self.claimed.lock().remove(&place).is_some() {
            self.lost.lock().push(place);
        }
    }

    /// The epoch of the claim under which a partition's records are delivered now; none when this host has no
    /// claim.
    #[must_use]
    pub fn epoch(&self, place: &TopicPartition) -> Option<i64> {
        self.claimed.lock().get(place).map(|claim| claim.epoch)
    }

    /// The partitions lost since the last call.
    pub fn take_lost(&self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.lost.lock())
    }

    /// Reads all claims under one lock.
    pub fn with<T>(&self, read: impl FnOnce(&HashMap<TopicPartition, PartitionClaim>) -> T) -> T {
        read(&self.claimed.lock())
    }

    /// Notes positions that pass only repeats; skips partitions that were claimed again meanwhile.
    pub fn note(&self, advances: Vec<ClaimAdvance>) {
        let mut claimed = self.claimed.lock();
        for ClaimAdvance { place, epoch, next_offset, .. } in advances {
            if let Some(claim) = claimed.get_mut(&place).filter(|claim| claim.epoch == epoch) {
                claim.next_offset = next_offset;
            }
        }
    }

    /// Whether a position is noted and not stored.
    #[must_use]
    pub fn has_noted(&self) -> bool {
        self.claimed.lock().values().any(PartitionClaim::is_noted)
    }

    /// Applies what a committed unit changed; skips partitions that were claimed again meanwhile.
    pub fn advance(&self, advances: Vec<ClaimAdvance>) {
        let mut claimed = self.claimed.lock();
        for advance in advances {
            if let Some(claim) = claimed.get_mut(&advance.place)
                && claim.epoch == advance.epoch
            {
                apply(claim, advance);
            }
        }
    }

    /// Replaces the number of parked deliveries of each key of a partition.
    pub fn set_parked(&self, place: &TopicPartition, epoch: i64, parked: HashMap<String, u32>) {
        if let Some(claim) = self.claimed.lock().get_mut(place).filter(|claim| claim.epoch == epoch) {
            claim.parked = parked;
        }
    }

    /// Topic, partition and next record of each claim.
    #[must_use]
    pub fn positions(&self) -> Vec<(Arc<str>, i32, i64)> {
        let claimed = self.claimed.lock();
        claimed.values().map(|claim| (claim.topic.clone(), claim.partition, claim.next_offset)).collect()
    }
}

fn apply(claim: &mut PartitionClaim, advance: ClaimAdvance) {
    claim.next_offset = advance.next_offset;
    claim.stored_offset = advance.next_offset;
    claim.dedup_marks = advance.dedup_marks;
    for key in advance.parked {
        *claim.parked.entry(key).or_default() += 1;
    }
    for key in advance.freed {
        if let Some(count) = claim.parked.get_mut(&key) {
            *count = count.saturating_sub(1);
        }
    }
    claim.parked.retain(|_, count| *count > 0);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{DedupMarks, PartitionClaim, PartitionClaims, TopicPartition};

    fn claim(place: &TopicPartition, epoch: i64) -> PartitionClaim {
        PartitionClaim {
            id: 1,
            topic: place.0.clone(),
            partition: place.1,
            epoch,
            next_offset: 0,
            stored_offset: 0,
            dedup_marks: DedupMarks::default(),
            parked: HashMap::new(),
        }
    }

    #[test]
    fn a_lost_claim_has_no_epoch_until_the_partition_is_claimed_again() {
        let claims = PartitionClaims::default();
        let place: TopicPartition = ("t".into(), 0);
        claims.insert(claim(&place, 7));
        assert_eq!(claims.epoch(&place), Some(7));
        claims.lose(place.clone());
        claims.lose(place.clone());
        assert_eq!(claims.epoch(&place), None);
        assert_eq!(claims.take_lost(), std::slice::from_ref(&place), "reported once");
        claims.insert(claim(&place, 8));
        assert_eq!(claims.epoch(&place), Some(8));
    }
}
