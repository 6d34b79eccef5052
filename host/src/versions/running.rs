//! A version as this host runs it, and what it has done.

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
