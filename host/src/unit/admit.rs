//! Admission: decides the disposition of each delivery that is offered to a unit, and how far each partition
//! advances. Pure: the database is asked afterwards, when the unit opens.

use std::collections::{HashMap, HashSet};

use super::open::ClaimAdvanceRow;
use crate::{
    claims::{
        partition::PartitionClaim,
        partitions::{ClaimAdvance, TopicPartition},
    },
    model::{
        delivery::{Delivery, OFFSET_UNKNOWN, Origin},
        fault::ParkedUntil,
    },
    sabotage::{self, Switch},
};

/// A delivery that is offered to one unit after the other until one commits.
#[derive(Clone, Debug)]
pub struct Work {
    /// The delivery.
    pub delivery: Delivery,
    /// Set when an earlier unit found that it cannot be handled now: the next unit parks it.
    pub parking: Option<Parking>,
}

impl Work {
    /// A delivery that is offered for the first time; `now_ms` is the time of the plugin's database. A record
    /// that the host could not read is parked, and so is one that cannot be from the lane that it names: that
    /// one raises no mark, and when a person redrives it, it is handled as a foreign record.
    #[must_use]
    pub fn of(mut delivery: Delivery, now_ms: i64) -> Self {
        let implausible = delivery.mark.as_ref().and_then(|mark| mark.implausible(now_ms));
        if implausible.is_some() {
            (delivery.mark, delivery.sequence) = (None, None);
        }
        let reason = delivery.unreadable.take().map(String::from).or(implausible);
        let parking = reason.map(|reason| Parking { reason, until: ParkedUntil::Redriven });
        Self { delivery, parking }
    }
}

/// Why a delivery is parked, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// For a person to read.
    pub reason: String,
    /// What ends it.
    pub until: ParkedUntil,
}

/// What a unit does with one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The plugin handles it.
    Run,
    /// It is parked, for the reason that its work carries.
    Park,
    /// It is parked behind an earlier delivery of its key.
    Queue,
    /// It was handled before, or another host has claimed its partition.
    Drop,
}

/// What a unit does with its deliveries, and how its partitions advance.
#[derive(Debug, Default)]
pub struct Admission {
    /// One for each piece of work.
    pub dispositions: Vec<Disposition>,
    /// What `saga.open` writes, sorted by id.
    pub claim_advances: Vec<ClaimAdvanceRow>,
    /// The same for this host's memory, after the commit; by id of the claim.
    pub advances: HashMap<i32, ClaimAdvance>,
}

/// What this batch has shown so far.
#[derive(Default)]
struct Batch<'a> {
    /// Claim and key of the deliveries that it parks: later ones of the key queue behind them.
    parked_keys: HashSet<(i32, &'a str)>,
    foreign_ids: HashSet<&'a str>,
}

impl Admission {
    /// Decides for `work`, in its order.
    #[must_use]
    pub fn decide(work: &[Work], claims: &HashMap<TopicPartition, PartitionClaim>) -> Self {
        let mut admission = Self::default();
        let mut batch = Batch::default();
        for item in work {
            let disposition = admission.disposition(item, claims, &mut batch);
            admission.dispositions.push(disposition);
        }
        admission.claim_advances.sort_unstable_by_key(|row| row.id);
        for row in &mut admission.claim_advances {
            if let Some(advance) = admission.advances.get(&row.id) {
                row.next_offset = advance.next_offset;
                row.dedup_marks = advance.dedup_marks.to_text();
            }
        }
        admission
    }

    fn disposition<'a>(
        &mut self,
        item: &'a Work,
        claims: &HashMap<TopicPartition, PartitionClaim>,
        batch: &mut Batch<'a>,
    ) -> Disposition {
        let delivery = &item.delivery;
        let run_or_park = if item.parking.is_some() { Disposition::Park } else { Disposition::Run };
        let Origin::Kafka { topic, partition, offset } = &delivery.origin else { return run_or_park };
        let Some(claim) = claims.get(&(topic.clone(), *partition)) else { return Disposition::Drop };
        let advance = self.advance_of(claim);
        if delivery.parked_id.is_some() {
            return run_or_park;
        }
        if delivery.claim_epoch != claim.epoch {
            return Disposition::Drop;
        }
        // Only Kafka's copy of a record that was handed over moves the position.
        if *offset != OFFSET_UNKNOWN {
            if *offset < advance.next_offset {
                return Disposition::Drop;
            }
            advance.next_offset = offset + 1;
        }
        let repeated = delivery.mark.as_ref().is_some_and(|mark| !advance.dedup_marks.raise(mark))
            || delivery.foreign_id.as_deref().is_some_and(|id| !batch.foreign_ids.insert(id));
        if repeated && !sabotage::on(Switch::RepeatsHandled) {
            return Disposition::Drop;
        }
        let Some(key) = delivery.correlation.as_deref() else { return run_or_park };
        let parked = claim.parked.contains_key(key) || batch.parked_keys.contains(&(claim.id, key));
        if parked && !sabotage::on(Switch::KeyNotHeld) {
            return Disposition::Queue;
        }
        if item.parking.is_some() {
            batch.parked_keys.insert((claim.id, key));
        }
        run_or_park
    }

    /// A partition of which only parked deliveries are tried again keeps its offset, but its claim is
    /// checked.
    fn advance_of(&mut self, claim: &PartitionClaim) -> &mut ClaimAdvance {
        let rows = &mut self.claim_advances;
        self.advances.entry(claim.id).or_insert_with(|| {
            rows.push(ClaimAdvanceRow {
                id: claim.id,
                epoch: claim.epoch,
                expected_offset: claim.stored_offset,
                next_offset: claim.next_offset,
                dedup_marks: String::new(),
            });
            ClaimAdvance {
                place: (claim.topic.clone(), claim.partition),
                epoch: claim.epoch,
                next_offset: claim.next_offset,
                dedup_marks: claim.dedup_marks.clone(),
                parked: Vec::new(),
                freed: Vec::new(),
            }
        })
    }

    /// The admission of no delivery, which stores the positions that were only noted.
    #[must_use]
    pub fn of_noted(claims: &HashMap<TopicPartition, PartitionClaim>) -> Self {
        let mut admission = Self::default();
        let mut noted: Vec<_> = claims.values().filter(|claim| claim.is_noted()).collect();
        noted.sort_unstable_by_key(|claim| claim.id);
        for claim in noted {
            let marks = admission.advance_of(claim).dedup_marks.to_text();
            if let Some(row) = admission.claim_advances.last_mut() {
                row.dedup_marks = marks;
            }
        }
        admission
    }

    /// Whether there is nothing to handle. The positions may advance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dispositions.iter().all(|disposition| *disposition == Disposition::Drop)
    }

    /// The partitions whose claims are not among `ours`, the ids that `saga.open` has confirmed.
    #[must_use]
    pub fn lost(&self, ours: &HashSet<i32>) -> Vec<TopicPartition> {
        let lost = self.advances.iter().filter(|(id, _)| !ours.contains(id));
        lost.map(|(_, advance)| advance.place.clone()).collect()
    }

    /// The advance of the partition that a delivery comes from.
    pub fn advance_for(&mut self, delivery: &Delivery) -> Option<&mut ClaimAdvance> {
        let Origin::Kafka { topic, partition, .. } = &delivery.origin else { return None };
        self.advances.values_mut().find(|advance| advance.place.0 == *topic && advance.place.1 == *partition)
    }
}

#[cfg(test)]
mod tests;
