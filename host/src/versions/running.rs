//! A version as this host runs it, and its counters on this host.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::plugin::version::Version;

/// A version as this host runs it.
#[derive(Debug)]
pub struct Running {
    /// The version.
    pub version: Arc<Version>,
    /// Counts activations in the database, from 1.
    pub generation: i64,
    /// When this activation was recorded, by Postgres's clock.
    pub since: SystemTime,
    /// When it was activated for the first time: its probation counts from then.
    pub first_since: SystemTime,
    /// Its counters on this host.
    pub counters: Counters,
}

/// Counters of one version on this host.
#[derive(Debug, Default)]
pub struct Counters {
    /// Committed units.
    pub units: AtomicU64,
    /// Deliveries and requests in them.
    pub deliveries: AtomicU64,
    /// SQL statements of the plugin in committed units.
    pub statements: AtomicU64,
    /// Units that failed, by the plugin's fault.
    pub errors: AtomicU64,
    /// Deliveries that failed alone, by the plugin's fault, since the last committed unit of deliveries.
    pub failed_deliveries: AtomicU32,
    /// Requests that failed alone, by the plugin's fault, since the last committed unit of requests.
    pub failed_requests: AtomicU32,
}

impl Counters {
    /// Counts a committed unit.
    pub fn unit(&self, deliveries: usize, statements: u32) {
        self.units.fetch_add(1, Ordering::Relaxed);
        self.deliveries.fetch_add(deliveries as u64, Ordering::Relaxed);
        self.statements.fetch_add(u64::from(statements), Ordering::Relaxed);
    }
}
