//! Publishes what was committed, in order, and forgets it when Kafka has acknowledged it.
//!
//! ```text
//!  lane ── register(seq) ── COMMIT ── committed(seq, records) ──▶ order ──▶ producer ──▶ Kafka
//!                                                                   ▲           │
//!  outbox rows of other hosts, and after a restart ── snapshot ─────┘           ▼
//!                                                              acknowledged: DELETE FROM outbox
//! ```
//!
//! One host leads a database's relay. What the others commit, the leader finds in the outbox when they
//! tell it to look, see [`self::notifier`].
//! It never decides what is sent: that is fixed by the commit.

mod election;
mod leader;
mod maintenance;
pub mod notifier;
pub mod order;
mod outbox;
mod producer;
mod waits;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use notifier::Neighbours;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    election::{LEASE, Lease, RENEWAL},
    leader::{Leader, Refused},
    maintenance::Upkeep,
    order::{Order, Records},
    waits::Waits,
};
use crate::{kafka::Brokers, store::Database};

/// Units that are ready to be sent and kept in memory, at the most.
const READY_UNITS_MAX: usize = 2_000;
/// Before a broken producer is built anew.
const REBUILD_AFTER: Duration = Duration::from_millis(200);

/// The relay of one database, shared by its lanes.
#[derive(Debug)]
pub struct Relay {
    database: Database,
    brokers: Brokers,
    owner: String,
    order: Mutex<Order>,
    leading: AtomicBool,
    /// Some plugin of this database publishes.
    publishes: AtomicBool,
    changed: Arc<Notify>,
    neighbours: Arc<Neighbours>,
    /// Records handed to Kafka since the start, for the metrics.
    pub published: AtomicU64,
    /// How long units have waited here, for the metrics.
    pub waits: Waits,
}

impl Relay {
    /// A relay that [`Relay::run`] starts.
    #[must_use]
    pub fn new(database: Database, brokers: Brokers, owner: &str) -> Arc<Self> {
        let changed = Arc::<Notify>::default();
        let neighbours = Neighbours::new(database.admin.clone(), changed.clone());
        Arc::new(Self {
            database,
            brokers,
            owner: owner.to_owned(),
            order: Mutex::new(Order::new(READY_UNITS_MAX)),
            leading: AtomicBool::new(false),
            publishes: AtomicBool::new(false),
            changed,
            neighbours,
            published: AtomicU64::new(0),
            waits: Waits::default(),
        })
    }

    /// The other hosts on this database.
    #[must_use]
    pub fn neighbours(&self) -> &Arc<Neighbours> {
        &self.neighbours
    }

    /// The database whose outbox it empties.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A plugin that publishes is about to run: its first record finds a producer that is connected.
    pub fn expect_records(&self) {
        self.publishes.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether this host leads: it also looks after the database's timers then.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// True when nothing that this host knows of waits to be sent or acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.order.lock().is_idle()
    }

    /// Before COMMIT: this number is about to be used.
    pub fn register(&self, seq: i64) {
        self.order.lock().register(seq);
    }

    /// After COMMIT.
    pub fn committed(&self, seq: i64, records: Records) {
        if self.leads() {
            self.waits.committed(seq);
        }
        self.order.lock().committed(seq, records);
        self.tell_leader();
    }

    /// The unit was rolled back.
    pub fn rolled_back(&self, seq: i64) {
        self.order.lock().rolled_back(seq);
        self.changed.notify_one();
    }

    /// COMMIT had no answer: the outbox will tell.
    pub fn unknown(&self, seq: i64) {
        self.order.lock().unknown(seq);
        self.tell_leader();
    }

    /// This host or another: who does not lead now, but did when the unit was handed over, has left it to the
    /// outbox.
    fn tell_leader(&self) {
        if self.leads() { self.changed.notify_one() } else { self.neighbours.tell_committed() }
    }

    /// Leads whenever it can, until `stop`; then sends what is committed and gives up the lead.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match Lease::take(&self.database.admin, &self.owner).await {
                Ok(Some(lease)) => self.lead(lease, &stop).await,
                // Something may have been committed before that was known.
                Ok(None) => {
                    if self.neighbours.set_present(true) {
                        self.neighbours.tell_committed();
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        database = self.database.name,
                        reason = format!("{error:#}"),
                        "relay waits"
                    )
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn lead(&self, mut lease: Lease, stop: &CancellationToken) {
        self.order.lock().lead();
        self.leading.store(true, Ordering::Release);
        tracing::debug!(database = self.database.name, "relay leads");
        let mut refused = Refused::new();
        let mut upkeep = Upkeep::default();
        while lease.holds() && !(stop.is_cancelled() && self.is_idle()) {
            // Whatever an earlier producer had in flight goes again, lowest first.
            self.order.lock().resume();
            let published = match Leader::begin(self, &mut refused, &mut upkeep).await {
                Ok(leader) => leader.publish(&mut lease, stop).await,
                Err(error) => Err(error),
            };
            match published {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(
                        database = self.database.name,
                        reason = format!("{error:#}"),
                        "relay starts again"
                    );
                    tokio::time::sleep(REBUILD_AFTER).await;
                    if matches!(lease.renew(&self.database.admin, &self.owner).await, Ok(false)) {
                        break;
                    }
                }
            }
        }
        self.leading.store(false, Ordering::Release);
        self.waits.clear();
        self.order.lock().follow();
        if let Err(error) = lease.release(&self.database.admin).await {
            tracing::debug!(database = self.database.name, "the lead ends by itself in {LEASE:?}: {error:#}");
        }
    }
}
