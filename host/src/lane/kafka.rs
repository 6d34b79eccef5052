//! The lane of Kafka records, due timers, deadlines and held deliveries that are tried again.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    batching::Pace,
    connection::Seat,
    scheduler::{self, Owned},
};
use crate::{
    claims::{
        partition::parked_keys,
        partitions::{PartitionClaims, TopicPartition},
    },
    model::{
        delivery::{Delivery, Origin},
        fault::{Culprit, Fault, ParkedUntil},
    },
    plugin::version::Version,
    rollout::service::Service,
    unit::{
        Failed,
        admit::{Parking, Work},
        deliveries::{self, Committed, Ran},
    },
    versions::{
        rollback_guard::{self, Kind},
        running::Running,
    },
};

/// How often the database is asked what fell due.
const DUE_EVERY: Duration = Duration::from_millis(500);
/// How often a lane that stands still looks whether it may go on.
const STAND_STILL: Duration = Duration::from_millis(100);

/// The Kafka lane of one plugin.
#[derive(Debug)]
pub struct KafkaLane {
    seat: Seat,
    claims: Arc<PartitionClaims>,
    stop: CancellationToken,
    /// What the last unit ran.
    version: Arc<Version>,
    due_at: Instant,
    pace: Pace,
}

impl KafkaLane {
    /// `owner` names the host; `stop` ends it after the unit that runs.
    #[must_use]
    pub fn new(
        service: Arc<Service>,
        claims: Arc<PartitionClaims>,
        owner: &str,
        stop: CancellationToken,
    ) -> Self {
        let version = service.active.load().version.clone();
        let stages = service.delivery_stages.clone();
        let seat = Seat::new(service, "kafka", stages, owner, stop.clone());
        Self { seat, claims, stop, version, due_at: Instant::now(), pace: Pace::new() }
    }

    /// Handles what arrives until `stop`. What is queued then comes again from Kafka.
    pub async fn run(mut self) {
        let service = self.seat.service.clone();
        while !self.stop.is_cancelled() {
            if service.stands_still() {
                self.stand_still().await;
                continue;
            }
            if !self.seat.take().await {
                break;
            }
            if Instant::now() >= self.seat.renew_at() {
                self.seat.renew().await;
            }
            if Instant::now() >= self.due_at {
                let more = self.handle_due().await;
                self.due_at = Instant::now() + if more { Duration::ZERO } else { DUE_EVERY };
            }
            self.pace.rest(self.gather()).await;
            let wake_at = self.due_at.min(self.seat.renew_at());
            // The queue before the clock: what fell due and what arrives take turns.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                ready = service.deliveries.ready() => if !ready { break },
                () = tokio::time::sleep_until(wake_at) => continue,
            }
            let batch = self.take_batch();
            self.pace.start();
            self.process(batch).await;
            self.seat.service.relay.neighbours().units_take(self.pace.end());
        }
        self.seat.release().await;
    }

    /// Without a slot, other hosts look after timers and deadlines.
    async fn stand_still(&mut self) {
        self.seat.release().await;
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(STAND_STILL) => {}
        }
    }

    /// What a read model asks for: units so far apart become fewer and larger.
    fn gather(&self) -> Duration {
        Duration::from_millis(u64::from(self.seat.service.active.load().version.manifest.gather_ms))
    }

    fn take_batch(&self) -> Vec<Work> {
        let limits = &self.seat.service.active.load().version.policy.limits;
        let (mut deliveries, mut bytes) = (limits.batch_deliveries_max, limits.call_bytes_max);
        let taken = self.seat.service.deliveries.take_while(|delivery| {
            let fits =
                deliveries > 0 && (bytes >= delivery.size() || deliveries == limits.batch_deliveries_max);
            deliveries = deliveries.saturating_sub(1);
            bytes = bytes.saturating_sub(delivery.size());
            fits
        });
        taken.into_iter().map(|delivery| Work { delivery, parking: None }).collect()
    }

    /// One round of what fell due; whether more of it may be due at once. A round that got nothing
    /// done would find the same again.
    async fn handle_due(&mut self) -> bool {
        let service = self.seat.service.clone();
        let owned = Owned {
            claims: self.claims.positions(),
            leads: service.relay.leads(),
            owner: self.seat.owner.clone(),
        };
        let limit = service.active.load().version.policy.limits.batch_deliveries_max;
        let due = match scheduler::due(&service.database.admin, &service.name, &owned, limit).await {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(plugin = service.name, "{error:#}");
                return false;
            }
        };
        if due.is_empty() || self.stop.is_cancelled() {
            return false;
        }
        let more = may_be_more(&due, limit);
        let progress =
            self.process(due.into_iter().map(|delivery| Work { delivery, parking: None }).collect()).await;
        self.refresh_parked().await;
        more && progress
    }

    /// A person may have discarded what was held.
    async fn refresh_parked(&self) {
        let service = &self.seat.service;
        let parked: Vec<_> = self.claims.with(|claims| {
            let with_parked = claims.iter().filter(|(_, claim)| !claim.parked.is_empty());
            with_parked.map(|(place, claim)| (place.clone(), claim.epoch)).collect()
        });
        for (place, epoch) in parked {
            match parked_keys(&service.database.admin, &service.name, &place.0, place.1).await {
                Ok(keys) => self.claims.set_parked(&place, epoch, keys),
                Err(error) => tracing::debug!(plugin = service.name, "{error:#}"),
            }
        }
    }

    /// Commits all of `work`, in order, in as few units as its culprits allow; whether any of it was
    /// dealt with.
    async fn process(&mut self, work: Vec<Work>) -> bool {
        let mut parts = vec![work];
        let mut progress = false;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() || !self.seat.take().await {
                continue;
            }
            let active = self.seat.service.active.load_full();
            let Failed { fault, version, .. } = match self.unit(&active, &part).await {
                Ok(dealt_with) => {
                    progress |= dealt_with > 0;
                    continue;
                }
                Err(failed) => failed,
            };
            let version = version.unwrap_or(active);
            self.seat.recover(&fault).await;
            match fault {
                Fault::Environment(why) => {
                    if !self.seat.pause(&why).await {
                        return progress;
                    }
                    parts.push(part);
                }
                Fault::LaneLost | Fault::PartitionsLost => parts.push(part),
                Fault::VersionNotLoaded(digest) => {
                    if let Err(error) = self.seat.service.load_draining(&digest).await
                        && !self.seat.pause(&format!("{error:#}")).await
                    {
                        return progress;
                    }
                    parts.push(part);
                }
                Fault::Unknown => self.give_up_claims(),
                Fault::Culprits(culprits) => {
                    self.blame(&version, &mut part, culprits);
                    parts.push(part);
                }
                Fault::Guest(reason) => {
                    let rest = self.halve(&version, &mut part, reason);
                    parts.push(rest);
                    parts.push(part);
                }
            }
        }
        progress
    }

    /// Runs one unit; how many deliveries it dealt with.
    async fn unit(&mut self, active: &Arc<Running>, work: &[Work]) -> Result<usize, Failed> {
        if self.seat.service.stands_still() || self.reads_otherwise(&active.version) {
            self.give_up_claims();
            return Ok(0);
        }
        let claims = self.claims.clone();
        let Some(mut setup) = self.seat.setup(active) else { return Err(Fault::LaneLost.into()) };
        let began = Instant::now();
        let Committed { advances, ended, ran, dealt_with, committed } =
            deliveries::run(&mut setup, &claims, work).await?;
        if !committed {
            return Ok(0);
        }
        self.seat.committed();
        self.claims.advance(advances);
        for saga in &ended {
            self.seat.service.waiters.ended(&saga.saga_type, &saga.key, saga.answer.as_deref());
        }
        for Ran { version, handled, statements } in ran {
            version.counters.unit(handled, statements);
            rollback_guard::succeeded(&version, Kind::Deliveries);
        }
        tracing::debug!(
            plugin = self.seat.service.name,
            deliveries = work.len(),
            us = began.elapsed().as_micros(),
            "unit committed"
        );
        Ok(dealt_with)
    }

    /// Whether `version` finds keys and topics elsewhere than the one before it: what is queued was
    /// read for that one, and its keys would order nothing against what comes.
    fn reads_otherwise(&mut self, version: &Arc<Version>) -> bool {
        if Arc::ptr_eq(&self.version, version) {
            return false;
        }
        let before = std::mem::replace(&mut self.version, version.clone());
        before.manifest.subscriptions != version.manifest.subscriptions
    }

    fn blame(&self, version: &Running, work: &mut [Work], culprits: Vec<Culprit>) {
        version.counters.errors.fetch_add(1, Ordering::Relaxed);
        for culprit in culprits {
            if let Some(item) = work.get_mut(culprit.cause) {
                if culprit.until == ParkedUntil::Backoff && item.delivery.attempt <= 1 {
                    rollback_guard::failed(&self.seat.service, version, Kind::Deliveries, &culprit.reason);
                }
                item.parking = Some(Parking { reason: culprit.reason, until: culprit.until });
            }
        }
    }

    /// Takes off the second half; the culprit, when it is alone, is set aside.
    fn halve(&self, version: &Running, work: &mut Vec<Work>, reason: String) -> Vec<Work> {
        version.counters.errors.fetch_add(1, Ordering::Relaxed);
        let open: Vec<usize> = (0..work.len()).filter(|place| work[*place].parking.is_none()).collect();
        match open.as_slice() {
            [] => {
                // Nobody's decision is left in it, and going on would skip it: all of it comes again.
                tracing::error!(
                    plugin = self.seat.service.name,
                    reason,
                    "what is set aside cannot be written"
                );
                let places: HashSet<TopicPartition> =
                    work.drain(..).filter_map(|item| place_of(item.delivery)).collect();
                self.give_up(places);
                Vec::new()
            }
            [alone] => {
                if work[*alone].delivery.attempt <= 1 {
                    rollback_guard::failed(&self.seat.service, version, Kind::Deliveries, &reason);
                }
                work[*alone].parking = Some(Parking { reason, until: ParkedUntil::Backoff });
                Vec::new()
            }
            several => {
                tracing::debug!(
                    plugin = self.seat.service.name,
                    deliveries = several.len(),
                    reason,
                    "unit halved"
                );
                work.split_off(several[several.len() / 2])
            }
        }
    }

    /// After a COMMIT of which nobody knows, for a version that reads otherwise, and where this host stands
    /// still: whoever has the partitions then claims its partitions again and reads on from where the
    /// database says that each stands.
    fn give_up_claims(&self) {
        let places: Vec<_> = self.claims.with(|claims| claims.keys().cloned().collect());
        self.give_up(places);
    }

    fn give_up(&self, places: impl IntoIterator<Item = TopicPartition>) {
        for place in places {
            self.claims.lose(place);
        }
    }
}

/// Whether there may be more to do at once than was read: each key gives only its first held
/// delivery, and no kind gives more than `limit`.
fn may_be_more(due: &[Delivery], limit: u32) -> bool {
    due.len() >= usize::try_from(limit).unwrap_or(usize::MAX)
        || due.iter().any(|delivery| delivery.parked_id.is_some())
}

/// The partition that a delivery comes from.
fn place_of(delivery: Delivery) -> Option<TopicPartition> {
    match delivery.origin {
        Origin::Kafka { topic, partition, .. } => Some((topic, partition)),
        Origin::Timer { .. } | Origin::Deadline { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivery, Origin, may_be_more};
    use crate::lane::scheduler::bare;

    #[test]
    fn another_round_is_for_what_the_first_could_not_show() {
        let timer = || bare(Origin::Timer { name: "t".into() }, 0);
        assert!(!may_be_more(&[timer()], 2));
        assert!(may_be_more(&[timer(), timer()], 2));
        assert!(may_be_more(&[Delivery { parked_id: Some(1), ..timer() }], 2));
    }
}
