//! The lane of Kafka records, due timers and deadlines, and of parked deliveries that are tried again.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    batching::{BatchLimit, BatchTimer},
    connection::{LaneConnection, LaneContext},
    recovery::Recovery,
    scheduler::{self, Duties},
};
use crate::{
    claims::{
        lane_lease::LaneLease,
        partition::parked_keys,
        partitions::{PartitionClaims, TopicPartition},
    },
    model::{
        delivery::{Delivery, Origin},
        fault::{Culprit, Fault, ParkedUntil},
        queue::Queue,
    },
    plugin::version::Version,
    unit::{
        Failed,
        admit::{Parking, Work},
        deliveries::{self, CommittedDeliveries, Ran},
        stages::Stages,
        waiters::Waiters,
    },
    versions::{
        rollback_guard::{self, LaneKind},
        running::Running,
    },
};

/// The interval in which the lane polls the database for what is due.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The interval in which a suspended lane checks whether it may continue.
const SUSPENDED_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The Kafka lane of one plugin.
#[derive(Debug)]
pub struct KafkaLane {
    connection: LaneConnection,
    queue: Arc<Queue<Delivery>>,
    claims: Arc<PartitionClaims>,
    waiters: Arc<Waiters>,
    stop: CancellationToken,
    /// The active version at the last unit.
    version: Arc<Version>,
    poll_at: Instant,
    timer: BatchTimer,
}

impl KafkaLane {
    /// A lane that [`Self::run`] starts. It takes deliveries from `queue` that were read under the claims in
    /// `claims`, and reports to `waiters` which sagas have ended.
    #[must_use]
    pub fn new(
        context: LaneContext,
        stages: Arc<Stages>,
        queue: Arc<Queue<Delivery>>,
        claims: Arc<PartitionClaims>,
        waiters: Arc<Waiters>,
    ) -> Self {
        let version = context.versions.active().version.clone();
        let stop = context.stop.clone();
        Self {
            connection: LaneConnection::new(context, "kafka", stages),
            queue,
            claims,
            waiters,
            stop,
            version,
            poll_at: Instant::now(),
            timer: BatchTimer::new(),
        }
    }

    /// Handles deliveries until `stop`; a unit in progress is finished.
    pub async fn run(mut self) {
        let queue = self.queue.clone();
        // When this lane replaces one that has panicked, the batch of that one is read again.
        self.give_up_claims();
        while !self.stop.is_cancelled() {
            if self.is_suspended() {
                self.wait_suspended().await;
                continue;
            }
            if !self.connection.acquire().await {
                break;
            }
            if Instant::now() >= self.connection.renew_at() {
                self.connection.renew().await;
            }
            if Instant::now() >= self.poll_at {
                let more = self.handle_due().await;
                self.poll_at = Instant::now() + if more { Duration::ZERO } else { POLL_INTERVAL };
            }
            self.timer.pause(self.gather()).await;
            let wake_at = self.poll_at.min(self.connection.renew_at());
            // The queue comes before the clock, so that deliveries and due work take turns.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                ready = queue.ready() => if !ready { break },
                () = tokio::time::sleep_until(wake_at) => continue,
            }
            let batch = self.take_batch();
            self.timer.start();
            self.process(batch).await;
            self.connection.backend.relay.notifier().set_unit_duration(self.timer.end());
        }
        self.connection.release().await;
    }

    fn is_suspended(&self) -> bool {
        self.connection.versions.suspended().is_some()
    }

    /// Gives up the lease while the plugin is suspended: other hosts then handle the timers and deadlines.
    async fn wait_suspended(&mut self) {
        self.connection.release().await;
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(SUSPENDED_POLL_INTERVAL) => {}
        }
    }

    /// The time between unit starts that a read model asks for: its units become fewer and larger.
    fn gather(&self) -> Duration {
        Duration::from_millis(u64::from(self.connection.versions.active().version.manifest.gather_ms))
    }

    fn take_batch(&self) -> Vec<Work> {
        let mut limit = BatchLimit::new(&self.connection.versions.active().version.policy.limits);
        let taken = self.queue.take_while(|delivery| limit.takes(delivery.size()));
        let now_ms = self.connection.lease.as_ref().map_or(i64::MAX, LaneLease::database_now_ms);
        taken.into_iter().map(|delivery| Work::of(delivery, now_ms)).collect()
    }

    /// Handles one round of due work. Returns whether more may be due at once. After a round without progress
    /// it returns false, since the next round would find the same.
    async fn handle_due(&mut self) -> bool {
        let backend = self.connection.backend.clone();
        let duties = Duties {
            positions: self.claims.positions(),
            leads: backend.relay.is_leader(),
            host_id: self.connection.host_id.clone(),
        };
        let limit = self.connection.versions.active().version.policy.limits.batch_deliveries_max;
        let due = match scheduler::due(&backend.database.admin, &backend.plugin, &duties, limit).await {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(plugin = backend.plugin, "{error:#}");
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

    /// Reads which keys have parked deliveries: a person may have discarded some.
    async fn refresh_parked(&self) {
        let backend = &self.connection.backend;
        let parked: Vec<_> = self.claims.with(|claims| {
            let with_parked = claims.iter().filter(|(_, claim)| !claim.parked.is_empty());
            with_parked.map(|(place, claim)| (place.clone(), claim.epoch)).collect()
        });
        for (place, epoch) in parked {
            match parked_keys(&backend.database.admin, &backend.plugin, &place.0, place.1).await {
                Ok(keys) => self.claims.set_parked(&place, epoch, keys),
                Err(error) => tracing::debug!(plugin = backend.plugin, "{error:#}"),
            }
        }
    }

    /// Commits all of `work`, in order, in as few units as its culprits allow. Returns whether any of it was
    /// handled or parked.
    async fn process(&mut self, work: Vec<Work>) -> bool {
        let mut parts = vec![work];
        let mut progress = false;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() || !self.connection.acquire().await {
                continue;
            }
            let active = self.connection.versions.active();
            let Failed { fault, version, .. } = match self.unit(&active, &part).await {
                Ok(dealt_with) => {
                    progress |= dealt_with > 0;
                    continue;
                }
                Err(failed) => failed,
            };
            let version = version.unwrap_or(active);
            match self.connection.recover(fault).await {
                Recovery::Again => parts.push(part),
                Recovery::Stop => return progress,
                Recovery::UnknownOutcome => self.give_up_claims(),
                Recovery::TakeOut(culprits) => {
                    self.blame(&version, &mut part, culprits);
                    parts.push(part);
                }
                Recovery::Halve(reason) => {
                    let second = self.halve(&version, &mut part, reason);
                    parts.push(second);
                    parts.push(part);
                }
            }
        }
        progress
    }

    /// Runs one unit. Returns how many deliveries it handled or parked.
    async fn unit(&mut self, active: &Arc<Running>, work: &[Work]) -> Result<usize, Failed> {
        if self.is_suspended() || self.reads_differently(&active.version) {
            self.give_up_claims();
            return Ok(0);
        }
        let claims = self.claims.clone();
        let Some(mut setup) = self.connection.setup(active) else { return Err(Fault::LaneLost.into()) };
        let started = Instant::now();
        let CommittedDeliveries { advances, ended, ran, dealt_with, committed } =
            deliveries::run(&mut setup, &claims, work).await?;
        if !committed {
            return Ok(0);
        }
        self.connection.committed();
        self.claims.advance(advances);
        for saga in &ended {
            self.waiters.ended(&saga.saga_type, &saga.key, saga.answer.as_deref());
        }
        for Ran { version, handled, statements } in ran {
            version.counters.unit(handled, statements);
            rollback_guard::succeeded(&version, LaneKind::Deliveries);
        }
        let plugin = &self.connection.backend.plugin;
        tracing::debug!(
            plugin,
            deliveries = work.len(),
            us = started.elapsed().as_micros(),
            "unit committed"
        );
        Ok(dealt_with)
    }

    /// Whether `version` finds keys or topics elsewhere than the version of the last unit did. Queued records
    /// were read for that one; their keys would not be ordered against those of later records.
    fn reads_differently(&mut self, version: &Arc<Version>) -> bool {
        if Arc::ptr_eq(&self.version, version) {
            return false;
        }
        let previous = std::mem::replace(&mut self.version, version.clone());
        previous.manifest.subscriptions != version.manifest.subscriptions
    }

    fn blame(&self, version: &Running, work: &mut [Work], culprits: Vec<Culprit>) {
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
    fn halve(&self, version: &Running, work: &mut Vec<Work>, reason: String) -> Vec<Work> {
        version.counters.errors.fetch_add(1, Ordering::Relaxed);
        let plugin = &self.connection.backend.plugin;
        let suspects: Vec<usize> = (0..work.len()).filter(|index| work[*index].parking.is_none()).collect();
        match suspects.as_slice() {
            [] => {
                // The plugin decided nothing in this unit, and skipping it would lose it: all of it is read
                // again.
                tracing::error!(plugin, reason, "cannot store parked deliveries; reading the records again");
                let places: HashSet<TopicPartition> =
                    work.drain(..).filter_map(|item| place_of(item.delivery)).collect();
                self.give_up(places);
                Vec::new()
            }
            [alone] => {
                if work[*alone].delivery.attempt <= 1 {
                    self.connection.versions.failed(version, LaneKind::Deliveries, &reason);
                }
                work[*alone].parking = Some(Parking { reason, until: ParkedUntil::Backoff });
                Vec::new()
            }
            several => {
                tracing::debug!(plugin, deliveries = several.len(), reason, "unit halved");
                work.split_off(several[several.len() / 2])
            }
        }
    }

    /// Gives up all claims: after a COMMIT whose outcome is unknown, for a version that reads differently,
    /// and while the plugin is suspended. The host to which Kafka assigns the partitions claims them again
    /// and continues at the positions in the database.
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

/// Whether more may be due than was read: each key gives only its first parked delivery, and no kind of due
/// work gives more than `limit`.
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

    #[test]
    fn another_round_follows_when_the_first_may_have_left_out_due_work() {
        let timer = || Delivery::bare(Origin::Timer { name: "t".into() }, 0);
        assert!(!may_be_more(&[timer()], 2));
        assert!(may_be_more(&[timer(), timer()], 2));
        assert!(may_be_more(&[Delivery { parked_id: Some(1), ..timer() }], 2));
    }
}
