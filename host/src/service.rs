//! One plugin as this host runs it: its versions, its database, its queues and its counters.
//! Everything that lanes, ingress and the host API share of a plugin is here and nowhere else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;

use crate::{
    ingress::{
        consumer::Health,
        delivery::Delivery,
        http::{pending::Pending, readers::Readers, waiters::Waiters},
    },
    kafka::Topics,
    lane::{breaker::Trips, queue::Queue},
    plugin::version::Version,
    relay::Relay,
    store::{Database, PluginRole},
};

/// The version that new work goes to.
#[derive(Debug)]
pub struct Active {
    /// The version.
    pub version: Arc<Version>,
    /// Counts activations in the database, from 1.
    pub generation: i64,
    /// Since when.
    pub since: SystemTime,
    /// When it was active for the first time: so long it has proved itself.
    pub first_since: SystemTime,
    /// What it has done since.
    pub counters: Counters,
}

/// What a version has done on this host.
#[derive(Debug, Default)]
pub struct Counters {
    /// Committed units.
    pub units: AtomicU64,
    /// Deliveries and requests in them.
    pub deliveries: AtomicU64,
    /// SQL statements of the plugin in them.
    pub statements: AtomicU64,
    /// Units that failed by the plugin's fault.
    pub errors: AtomicU64,
    /// Deliveries that failed alone, by the plugin's fault, since the last unit of them that was committed.
    pub failed_deliveries: AtomicU32,
    /// The same of requests.
    pub failed_requests: AtomicU32,
}

impl Counters {
    /// Notes a committed unit.
    pub fn unit(&self, deliveries: usize, statements: u32) {
        self.units.fetch_add(1, Ordering::Relaxed);
        self.deliveries.fetch_add(deliveries as u64, Ordering::Relaxed);
        self.statements.fetch_add(u64::from(statements), Ordering::Relaxed);
    }
}

/// One plugin.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its database.
    pub database: Database,
    /// The role that its units run under.
    pub role: PluginRole,
    /// Changed between two units, never within one.
    pub active: ArcSwap<Active>,
    /// The relay of its database.
    pub relay: Arc<Relay>,
    /// Partition counts.
    pub topics: Arc<Topics>,
    /// What waits for the Kafka lane.
    pub deliveries: Arc<Queue<Delivery>>,
    /// What waits for the HTTP lane.
    pub requests: Arc<Queue<Pending>>,
    /// How its reading of Kafka goes.
    pub consumer: Health,
    /// The connections of its reads.
    pub readers: Readers,
    /// Where lanes tell that the active version must go.
    pub trips: Trips,
    /// HTTP callers that wait for the end of a saga.
    pub waiters: Arc<Waiters>,
}
