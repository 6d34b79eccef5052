//! Publishes committed records to Kafka in order, and deletes them from the outbox when Kafka has
//! acknowledged them.
//!
//! ```text
//!  lane ── register(seq) ── COMMIT ── committed(seq, records) ──▶ order ──▶ sender ──▶ Kafka
//!                                                                   ▲          │
//!  outbox rows of other hosts, and after a restart ── snapshot ─────┘          ▼
//!                                                             acknowledged: DELETE FROM outbox
//! ```
//!
//! One host, the leader, runs a database's relay. It finds in the outbox what other hosts commit; they notify
//! it, see [`self::notifier`].
//! The relay never decides what is sent: the commit has fixed every byte.

mod election;
mod latency;
mod maintenance;
pub mod notifier;
pub mod order;
mod outbox;
mod parked_records;
mod publisher;
mod sender;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    election::{LEASE_DURATION, LEASE_RENEWAL_INTERVAL, LeaderLease},
    latency::PublishLatency,
    notifier::Notifier,
    order::{Records, SendOrder},
    publisher::{LeaderState, Publisher},
};
use crate::{kafka::Brokers, store::Database};

/// Units that are committed, not yet sent, and kept in memory, at most.
const READY_UNITS_MAX: usize = 2_000;
/// Pause before a broken Kafka client or database connection is replaced.
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
    /// Records passed to the Kafka client since the start, for the metrics.
    pub published: AtomicU64,
    /// For the metrics.
    pub latency: PublishLatency,
}

impl Relay {
    /// A relay that [`Relay::run`] starts. `owner` names this host in its lease.
    #[must_use]
    pub fn new(database: Database, brokers: Brokers, owner: &str) -> Arc<Self> {
        let changed = Arc::<Notify>::default();
        let notifier = Notifier::new(database.admin.clone(), changed.clone());
        Arc::new(Self {
            database,
            brokers,
            owner: owner.to_owned(),
            order: Mutex::new(SendOrder::new(READY_UNITS_MAX)),
            leading: AtomicBool::new(false),
            publishes: AtomicBool::new(false),
            changed,
            notifier,
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

    /// Whether nothing that this host knows of waits to be sent or acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order.lock().is_idle()
    }

    /// Call before COMMIT: the unit uses this number.
    pub fn register(&self, seq: i64) {
        self.order.lock().register(seq);
    }

    /// Call after COMMIT.
    pub fn committed(&self, seq: i64, records: Records) {
        if self.is_leader() {
            self.latency.committed(seq);
        }
        self.order.lock().committed(seq, records);
        self.notify_leader();
    }

    /// Call after ROLLBACK.
    pub fn rolled_back(&self, seq: i64) {
        self.order.lock().rolled_back(seq);
        self.changed.notify_one();
    }

    /// Call when COMMIT has no answer: the leader finds in the outbox whether the unit has committed.
    pub fn commit_unknown(&self, seq: i64) {
        self.order.lock().commit_unknown(seq);
        self.notify_leader();
    }

    /// A host that has just lost the lead notifies its successor: the order has left the unit to the outbox.
    fn notify_leader(&self) {
        if self.is_leader() { self.changed.notify_one() } else { self.notifier.notify_committed() }
    }

    /// Stands for election, and leads whenever it is elected, until `stop`. Then it sends what is committed
    /// and releases the lease.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match LeaderLease::acquire(&self.database.admin, &self.owner).await {
                Ok(Some(lease)) => self.lead(lease, &stop).await,
                // This host may have committed before it knew of its peers, hence without a notification.
                Ok(None) => {
                    if self.notifier.set_has_peers(true) {
                        self.notifier.notify_committed();
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        database = self.database.name,
                        reason = format!("{error:#}"),
                        "relay paused: cannot acquire the leader lease in Postgres, retrying"
                    )
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LEASE_RENEWAL_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn lead(&self, mut lease: LeaderLease, stop: &CancellationToken) {
        self.order.lock().lead();
        self.leading.store(true, Ordering::Release);
        tracing::debug!(database = self.database.name, "this host leads the relay");
        self.publish_until_lost(&mut lease, stop).await;
        self.leading.store(false, Ordering::Release);
        self.latency.stop_leading();
        self.order.lock().follow();
        if let Err(error) = lease.release(&self.database.admin).await {
            tracing::debug!(
                database = self.database.name,
                reason = format!("{error:#}"),
                "cannot release the leader lease, it expires within {LEASE_DURATION:?}"
            );
        }
    }

    /// Publishes with one Kafka client after the other.
    async fn publish_until_lost(&self, lease: &mut LeaderLease, stop: &CancellationToken) {
        let mut state = LeaderState::default();
        while lease.is_valid() && !(stop.is_cancelled() && self.is_idle()) {
            // Sends again, lowest first, what an earlier client had in flight.
            self.order.lock().resume();
            let published = match Publisher::connect(self, &mut state).await {
                Ok(publisher) => publisher.publish(lease, stop).await,
                Err(error) => Err(error),
            };
            let Err(error) = published else { return };
            tracing::warn!(
                database = self.database.name,
                reason = format!("{error:#}"),
                "relay restarts, resuming from the outbox"
            );
            tokio::time::sleep(PUBLISHER_RESTART_PAUSE).await;
            if matches!(lease.renew(&self.database.admin, &self.owner).await, Ok(false)) {
                return;
            }
        }
    }
}
