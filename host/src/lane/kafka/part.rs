//! A part of a batch, which runs as one unit, and what the lane does when it fails: it finds the culprit, or
//! weighs whose fault it is.

use std::{collections::HashSet, sync::atomic::Ordering};

use super::{KafkaLane, TopicPartition, Work, place_of};
use crate::{
    lane::suspicion::{self, Step, Tried},
    model::{
        delivery::Origin,
        fault::{Culprit, ParkedUntil, Suspicion},
    },
    unit::admit::Parking,
    versions::{rollback_guard::LaneKind, running::Running},
};

/// The deliveries of one unit.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) work: Vec<Work>,
    tried: Tried,
}

impl Part {
    /// A whole batch.
    pub(super) fn new(work: Vec<Work>) -> Self {
        Self { work, tried: Tried::not_yet() }
    }

    /// Another part of the same batch.
    pub(super) fn with(&self, work: Vec<Work>) -> Self {
        Self { work, tried: self.tried }
    }

    /// Splits off the deliveries from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let second = self.work.split_off(at);
        self.with(second)
    }

    /// The places of the deliveries that the plugin is to handle.
    pub(super) fn suspects(&self) -> Vec<usize> {
        (0..self.work.len()).filter(|place| self.work[*place].parking.is_none()).collect()
    }

    /// Whether nothing in it is known to need parking.
    pub(super) fn is_undecided(&self) -> bool {
        self.work.iter().all(|item| item.parking.is_none())
    }

    /// Whether all of it is in the database, where it stays due until it is handled.
    fn stays_due(&self) -> bool {
        let is_record = |item: &Work| matches!(item.delivery.origin, Origin::Kafka { .. });
        self.work.iter().all(|item| item.delivery.parked_id.is_some() || !is_record(item))
    }

    /// Whether it may meet a row that somebody has locked: one has, or it only retries what has failed.
    pub(super) fn is_suspect(&self) -> bool {
        self.tried.met_lock || self.work.iter().all(|item| item.delivery.attempt > 1)
    }
}

impl KafkaLane {
    pub(super) fn blame(&self, version: &Running, work: &mut [Work], culprits: Vec<Culprit>) {
        version.counters.errors.fetch_add(1, Ordering::Relaxed);
        for culprit in culprits {
            if let Some(item) = work.get_mut(culprit.cause) {
                if culprit.until == ParkedUntil::Backoff && item.delivery.attempt <= 1 {
                    self.connection.versions.failed(version, LaneKind::Deliveries, &culprit.reason);
                }
                item.parking = Some(Parking { reason: culprit.reason, until: culprit.until });
            }
        }
    }

    /// Splits off and returns the second half. A culprit that is alone is parked.
    pub(super) fn halve(&self, version: &Running, part: &mut Part, reason: String) -> Part {
        version.counters.errors.fetch_add(1, Ordering::Relaxed);
        let plugin = &self.connection.backend.plugin;
        let suspects = part.suspects();
        match suspects.as_slice() {
            [] => {
                // The plugin decided nothing in this unit, and skipping it would lose it: all of it is read
                // again.
                tracing::error!(plugin, reason, "cannot store parked deliveries; reading the records again");
                let places: HashSet<TopicPartition> =
                    part.work.drain(..).filter_map(|item| place_of(item.delivery)).collect();
                self.give_up(places);
                part.with(Vec::new())
            }
            [alone] => {
                self.park_culprit(version, &mut part.work[*alone], reason);
                part.with(Vec::new())
            }
            several => {
                tracing::debug!(plugin, deliveries = several.len(), reason, "unit halved");
                part.split_off(several[several.len() / 2])
            }
        }
    }

    fn park_culprit(&self, version: &Running, item: &mut Work, reason: String) {
        if item.delivery.attempt <= 1 {
            self.connection.versions.failed(version, LaneKind::Deliveries, &reason);
        }
        item.parking = Some(Parking { reason, until: ParkedUntil::Backoff });
    }

    /// Does what follows from a failure of an unclear cause. Returns the second half where the part is
    /// halved, none where there is none; nothing at all when the host stops.
    pub(super) async fn weigh(
        &mut self,
        version: &Running,
        part: &mut Part,
        Suspicion { kind, reason }: Suspicion,
    ) -> Option<Option<Part>> {
        part.tried.failed(kind);
        let suspects = part.suspects();
        if suspects.is_empty() && part.stays_due() {
            // Parking them again fails, too, for example because somebody has locked their rows. Other
            // deliveries are not to wait for them.
            part.work.clear();
            return Some(None);
        }
        let evidence = self.connection.evidence(kind, part.tried, suspects.len()).await;
        let step = suspicion::next(kind, &evidence);
        tracing::debug!(plugin = self.connection.backend.plugin, ?step, ?evidence, reason, "unit suspected");
        let pauses = matches!(step, Step::Pause | Step::PauseAndPark);
        if pauses && !self.connection.pause(&reason).await {
            return None;
        }
        match step {
            Step::Again | Step::Pause => {}
            Step::Halve => return Some(Some(self.halve(version, part, reason))),
            Step::Blame => {
                for place in suspects {
                    self.connection.count_suspect();
                    self.park_culprit(version, &mut part.work[place], reason.clone());
                }
            }
            Step::Park | Step::PauseAndPark => {
                for place in suspects {
                    let item = &mut part.work[place];
                    // What is retried was counted when it was parked for the first time.
                    if item.delivery.attempt <= 1 {
                        self.connection.count_suspect();
                    }
                    item.parking = Some(Parking { reason: reason.clone(), until: ParkedUntil::Suspected });
                }
            }
        }
        Some(None)
    }
}
