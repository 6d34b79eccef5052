//! Publishes committed records to Kafka in order, and deletes them from the outbox when Kafka has
//! acknowledged them.
//!
//! ```text
//!  lane ── register(seq) ── COMMIT ── committed(seq, records) ──▶ order ──▶ sender ──▶ Kafka
//!                                                                   ▲          │
//!  outbox rows of other hosts, and after a restart ── snapshot ─────┘          ▼
//!                                                             acknowledged: DELETE FROM outbox
//!  batch refused ──▶ isolated ──▶ alone ──▶ Kafka ── refused alone ──▶ parked ── redrive ──▶ alone
//! ```
//!
//! One host, the leader, runs a database's relay. It finds in the outbox what other hosts commit; they notify
//! it, see [`self::notifier`].
//! The relay never decides what is sent: the commit has fixed every byte.

mod alone;
mod batch_size;
mod client;
mod election;
pub mod hand_over;
mod headers;
mod in_flight;
mod isolated;
mod latency;
mod leader;
mod maintenance;
pub mod notifier;
pub mod order;
mod outbox;
mod parked_records;
mod parked_rows;
mod probe;
mod publisher;
mod redrive;
mod refusal;
mod sender;
mod step_down;
mod trouble;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    election::{LEASE_DURATION, LEASE_RENEWAL_INTERVAL, LeaderLease},
    hand_over::{HandOver, Receivers},
    latency::PublishLatency,
    leader::LeaderState,
    notifier::Notifier,
    order::{LaneUnit, ReadyMax, Records, SendOrder},
    probe::Probe,
    publisher::{LeadEnd, Publisher},
    step_down::STAND_ASIDE,
    trouble::{Trouble, Troubles},
};
use crate::{kafka::Brokers, store::Database};

/// Units that are committed, not yet sent, and kept in memory, at most.
const READY_MAX: ReadyMax = ReadyMax { units: 2_000, bytes: 32 << 20 };
/// How long Postgres may take to answer who leads: somebody may have locked the row.
const ACQUIRED_WITHIN: Duration = Duration::from_secs(2);
/// Pause before a broken database connection is replaced.
const PUBLISHER_RESTART_PAUSE: Duration = Duration::from_millis(200);

/// The relay of one database, shared by its lanes.
#[derive(Debug)]
pub struct Relay {
    database: Database,
    brokers: Brokers,
    owner: String,
    order: Mutex<SendOrder>,
    leading: AtomicBool,
    /// Whether a plugin of this database publishes.
    publishes: AtomicBool,
    changed: Arc<Notify>,
    notifier: Arc<Notifier>,
    probe: Probe,
    /// To the lanes of this host.
    pub hand_over: Arc<HandOver>,
    troubles: Troubles,
    /// Why the leader lease cannot be acquired.
    cannot_lead: Mutex<Option<String>>,
    /// Why only a host of a later build can send the outbox.
    needs_later_build: Mutex<Option<String>>,
    /// Records passed to the Kafka client since the start, for the metrics.
    pub published: AtomicU64,
    /// For the metrics.
    pub latency: PublishLatency,
}

impl Relay {
    /// A relay that [`Relay::run`] starts. `owner` names this host in its lease; `receivers` are the consumers
    /// of this host.
    #[must_use]
    pub fn new(database: Database, brokers: Brokers, owner: &str, receivers: Arc<Receivers>) -> Arc<Self> {
        let changed = Arc::<Notify>::default();
        let notifier = Notifier::new(database.admin.clone(), changed.clone());
        Arc::new(Self {
            database,
            brokers,
            owner: owner.to_owned(),
            order: Mutex::new(SendOrder::new(READY_MAX)),
            leading: AtomicBool::new(false),
            publishes: AtomicBool::new(false),
            changed,
            notifier,
            probe: Probe::default(),
            hand_over: Arc::new(HandOver::new(receivers)),
            troubles: Troubles::default(),
            cannot_lead: Mutex::default(),
            needs_later_build: Mutex::default(),
            published: AtomicU64::new(0),
            latency: PublishLatency::default(),
        })
    }

    /// The connection to the other hosts on this database.
    #[must_use]
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The database whose outbox it publishes.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Connects to Kafka ahead of the first record: a plugin that publishes is about to run.
    pub fn expect_records(&self) {
        self.publishes.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether this host is the leader. The leader also polls for the database's timers.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// The records that Kafka does not accept for now. None where this host does not lead.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        self.troubles.all()
    }

    /// Why only a host of a later build can send the outbox, if so.
    #[must_use]
    pub fn needs_later_build(&self) -> Option<String> {
        self.needs_later_build.lock().clone()
    }

    /// Why this host can neither lead nor find out who does, if so.
    #[must_use]
    pub fn cannot_lead(&self) -> Option<String> {
        self.cannot_lead.lock().clone()
    }

    fn note_cannot_lead(&self, reason: Option<String>) {
        let before = std::mem::replace(&mut *self.cannot_lead.lock(), reason.clone());
        let database = &self.database.name;
        match (before, reason) {
            (None, Some(reason)) => tracing::warn!(database, reason, "relay paused, retrying"),
            (Some(_), None) => tracing::info!(database, "relay continues"),
            _ => {}
        }
    }

    fn note_later_build(&self, reason: Option<String>) {
        let before = std::mem::replace(&mut *self.needs_later_build.lock(), reason.clone());
        if let Some(reason) = reason.filter(|_| before.is_none()) {
            tracing::error!(database = self.database.name, "{reason}");
        }
    }

    /// Whether nothing that this host knows of waits to be sent or acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order.lock().is_idle()
    }

    /// Call before COMMIT: `unit` uses this number.
    pub fn register(&self, seq: i64, unit: LaneUnit) {
        self.order.lock().register(seq, unit);
    }

    /// Call before a lane commits on a new connection: the server may have crashed and issue numbers again.
    pub fn distrust_numbers(&self) {
        self.order.lock().distrust_numbers();
        self.changed.notify_one();
    }

    /// Call after COMMIT.
    pub fn committed(&self, seq: i64, unit: LaneUnit, records: Records) {
        if self.is_leader() {
            self.latency.committed(seq);
        }
        self.order.lock().committed(seq, unit, records);
        self.notify_leader();
    }

    /// Call after ROLLBACK.
    pub fn rolled_back(&self, seq: i64, unit: LaneUnit) {
        self.order.lock().rolled_back(seq, unit);
        self.changed.notify_one();
    }

    /// Call when COMMIT has no answer: the leader finds in the outbox whether the unit has committed.
    pub fn commit_unknown(&self, seq: i64, unit: LaneUnit) {
        self.order.lock().commit_unknown(seq, unit);
        self.notify_leader();
    }

    /// A host that has just lost the lead notifies its successor: the order has left the unit to the outbox.
    fn notify_leader(&self) {
        if self.is_leader() { self.changed.notify_one() } else { self.notifier.notify_committed() }
    }

    /// Stands for election, and leads whenever it is elected, until `stop`. Then it sends what is committed
    /// and releases the lease.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        // An earlier run may have panicked while it led.
        self.leading.store(false, Ordering::Release);
        while !stop.is_cancelled() {
            let mut pause = LEASE_RENEWAL_INTERVAL;
            let acquired = LeaderLease::acquire(&self.database.admin, &self.owner);
            let acquired = tokio::time::timeout(ACQUIRED_WITHIN, acquired).await.unwrap_or_else(|_| {
                bail!("acquiring the leader lease of the relay: no answer within {ACQUIRED_WITHIN:?}")
            });
            self.note_cannot_lead(acquired.as_ref().err().map(|error| format!("{error:#}")));
            match acquired {
                Ok(Some(lease)) => {
                    if self.lead(lease, &stop).await != LeadEnd::Ended {
                        pause = STAND_ASIDE;
                    }
                }
                Ok(None) => self.follow().await,
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Another host leads.
    async fn follow(&self) {
        self.note_later_build(None);
        // This host may have committed before it knew of its peers, hence without a notification.
        if self.notifier.set_has_peers(true) {
            self.notifier.notify_committed();
        }
        if let Err(error) = self.offer_to_lead().await {
            let database = &self.database.name;
            tracing::debug!(database, reason = format!("{error:#}"), "cannot look after the leader");
        }
    }

    /// Offers to lead when the leader gets no answer of Kafka and this host does.
    async fn offer_to_lead(&self) -> anyhow::Result<()> {
        let Some(stall) = step_down::read_stall(&self.database.admin).await? else {
            self.probe.close().await;
            return Ok(());
        };
        if self.probe.reaches(&self.brokers, &stall.place).await {
            step_down::offer(&self.database.admin, &stall, &self.owner).await?;
        }
        Ok(())
    }

    async fn lead(&self, lease: LeaderLease, stop: &CancellationToken) -> LeadEnd {
        self.order.lock().lead();
        self.hand_over.restart();
        self.leading.store(true, Ordering::Release);
        tracing::debug!(database = self.database.name, "this host leads the relay");
        let ended = self.publish_until_lost(&lease, stop).await;
        self.leading.store(false, Ordering::Release);
        self.latency.stop_leading();
        self.order.lock().follow();
        self.troubles.clear();
        self.probe.close().await;
        if ended == LeadEnd::SteppedDown {
            tracing::warn!(
                database = self.database.name,
                "Kafka acknowledges nothing to this host and answers another one, which leads the relay from \
                 now on: check the network between this host and the brokers"
            );
        }
        if let Err(error) = lease.release(&self.database.admin).await {
            tracing::debug!(
                database = self.database.name,
                reason = format!("{error:#}"),
                "cannot release the leader lease, it expires within {LEASE_DURATION:?}"
            );
        }
        ended
    }

    /// Publishes with one database connection after the other.
    async fn publish_until_lost(&self, lease: &LeaderLease, stop: &CancellationToken) -> LeadEnd {
        let mut state = LeaderState::new(self);
        while lease.is_valid() && !(stop.is_cancelled() && self.is_idle()) {
            let published = match Publisher::connect(self, &mut state).await {
                Ok(publisher) => publisher.publish(lease, stop).await,
                Err(error) => Err(error),
            };
            match published {
                Ok(ended) => return ended,
                Err(error) => tracing::warn!(
                    database = self.database.name,
                    reason = format!("{error:#}"),
                    "the relay is interrupted, continuing"
                ),
            }
            tokio::time::sleep(PUBLISHER_RESTART_PAUSE).await;
        }
        LeadEnd::Ended
    }
}
