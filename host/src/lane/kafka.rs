//! The lane of Kafka records, due timers and deadlines, and of parked deliveries that are tried again.

mod due;
mod part;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{due::DUE_WORK, part::Part};
use super::{
    batching::{BatchLimit, BatchTimer},
    connection::{LaneConnection, LaneContext},
    recovery::Recovery,
};
use crate::{
    claims::{
        lane_lease::LaneLease,
        partitions::{PartitionClaims, TopicPartition},
    },
    model::{
        delivery::{Delivery, Origin},
        fault::Fault,
        queue::Queue,
    },
    plugin::version::Version,
    unit::{
        Failed,
        admit::Work,
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
/// How much longer than planned due work may take before any of it is settled.
const DUE_WORK_EXTRA: Duration = Duration::from_secs(4);
/// The interval in which a suspended lane checks whether it may continue.
const SUSPENDED_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The interval in which positions are stored that only pass repeats. A host that dies before has to read the
/// repeats again.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

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
    store_at: Instant,
    /// Parked deliveries that this build cannot read.
    unreadable: Vec<i64>,
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
            store_at: Instant::now() + STORE_INTERVAL,
            unreadable: Vec::new(),
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
            if Instant::now() >= self.connection.renew_at() {
                self.connection.renew().await;
            }
            if !self.acquire().await {
                break;
            }
            if Instant::now() >= self.poll_at {
                let more = self.handle_due().await;
                self.poll_at = Instant::now() + if more { Duration::ZERO } else { POLL_INTERVAL };
            }
            if Instant::now() >= self.store_at {
                self.store_positions().await;
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
            self.process(batch, None).await;
            self.connection.backend.relay.notifier().set_unit_duration(self.timer.end());
        }
        self.connection.release().await;
    }

    /// Acquires what is missing. When the database no longer has what the lane has committed, what it knows of
    /// its partitions is wrong: they are claimed again.
    async fn acquire(&mut self) -> bool {
        let acquired = self.connection.acquire().await;
        if self.connection.take_units_lost() {
            self.give_up_claims();
        }
        acquired
    }

    /// Stores the positions that only pass repeats.
    async fn store_positions(&mut self) {
        self.store_at = Instant::now() + STORE_INTERVAL;
        if !self.claims.has_noted() {
            return;
        }
        let active = self.connection.versions.active();
        if let Err(failed) = self.unit(&active, &Part::new(Vec::new())).await {
            if let Recovery::UnknownOutcome = self.connection.recover(failed.fault).await {
                self.give_up_claims();
            }
            self.connection.resume();
        }
    }

    fn is_suspended(&self) -> bool {
        self.connection.versions.suspended().is_some()
    }

    /// Gives up the lease while the plugin is suspended: other hosts then handle the timers and deadlines.
    async fn wait_suspended(&mut self) {
        self.connection.release().await;
        self.connection.resume();
        self.connection.backend.paused.resume(DUE_WORK);
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

    /// Commits all of `work`, in order, in as few units as its culprits allow. Returns whether any of it was
    /// handled or parked.
    ///
    /// Due work is in the database: once `until` has passed, the rest is left for the next poll, so that records
    /// do not wait for it. Before a part of it is settled, it takes up to [`DUE_WORK_EXTRA`] longer.
    async fn process(&mut self, work: Vec<Work>, until: Option<Instant>) -> bool {
        let mut parts = vec![Part::new(work)];
        let mut progress = false;
        while let Some(mut part) = parts.pop() {
            let extra = if progress { Duration::ZERO } else { DUE_WORK_EXTRA };
            let is_late = until.is_some_and(|until| Instant::now() >= until + extra);
            if part.work.is_empty() || (is_late && part.is_undecided()) || !self.acquire().await {
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
                Recovery::Stop => break,
                Recovery::UnknownOutcome => self.give_up_claims(),
                Recovery::TakeOut(culprits) => {
                    self.blame(&version, &mut part.work, culprits);
                    parts.push(part);
                }
                Recovery::Halve(reason) => {
                    let second = self.halve(&version, &mut part, reason);
                    parts.push(second);
                    parts.push(part);
                }
                Recovery::Weigh(suspicion) => match self.weigh(&version, &mut part, suspicion).await {
                    Some(second) => {
                        parts.extend(second);
                        parts.push(part);
                    }
                    None => break,
                },
            }
        }
        self.connection.resume();
        progress
    }

    /// Runs one unit. Returns how many deliveries it handled or parked.
    async fn unit(&mut self, active: &Arc<Running>, part: &Part) -> Result<usize, Failed> {
        if self.is_suspended() || self.reads_differently(&active.version) {
            self.give_up_claims();
            return Ok(0);
        }
        let claims = self.claims.clone();
        let Some(mut setup) = self.connection.setup(active, part.is_suspect()) else {
            return Err(Fault::LaneLost.into());
        };
        let started = Instant::now();
        let CommittedDeliveries { advances, ended, ran, dealt_with, committed } =
            deliveries::run(&mut setup, &claims, &part.work).await?;
        if !committed {
            self.claims.note(advances);
            return Ok(0);
        }
        self.connection.committed(!ran.is_empty());
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
            deliveries = part.work.len(),
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

/// The partition that a delivery comes from.
fn place_of(delivery: Delivery) -> Option<TopicPartition> {
    match delivery.origin {
        Origin::Kafka { topic, partition, .. } => Some((topic, partition)),
        Origin::Timer { .. } | Origin::Deadline { .. } => None,
    }
}
