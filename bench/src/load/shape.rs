//! What kind of load, and for how long: the options that all commands which measure share.

use std::time::Duration;

use serde::Serialize;

use super::schedule::Schedule;

/// Options of every command that measures.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// Seconds before each measurement: Kafka's JVM compiles for that long
    #[arg(long, default_value_t = 15)]
    pub warmup_s: u64,
    /// Seconds measured
    #[arg(long, default_value_t = 15)]
    pub measure_s: u64,
    /// Products with plenty of stock
    #[arg(long, default_value_t = 1000)]
    pub products: usize,
    /// Products without stock
    #[arg(long, default_value_t = 100)]
    pub empty_products: usize,
    /// Orders in a hundred that ask for a product without stock
    #[arg(long, default_value_t = 10)]
    pub empty_percent: usize,
    /// Do not wait until the machine is quiet
    #[arg(long)]
    pub busy: bool,
}

impl Shape {
    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs(self.warmup_s)
    }

    pub(super) fn measure(&self) -> Duration {
        Duration::from_secs(self.measure_s)
    }

    pub(super) fn schedule(&self, rate_per_s: u32) -> Schedule {
        Schedule { rate_per_s, warmup: self.warmup(), measure: self.measure() }
    }
}

/// What one level demands of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// Closed loop: this many clients. Each waits for the end of its saga before it places the next order.
    Clients(usize),
    /// Open loop: this many orders per second, up to a limit of orders in flight.
    Rate {
        /// Orders per second.
        per_s: u32,
        /// Orders in flight at once. Further ones wait, and their latency counts from when they were due.
        in_flight_max: usize,
    },
}

impl std::fmt::Display for Demand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Clients(clients) => write!(f, "{clients} clients"),
            Self::Rate { per_s, .. } => write!(f, "{per_s}/s"),
        }
    }
}
