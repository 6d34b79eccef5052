//! Where the time of a lone saga goes: its path is walked stop by stop, with the times that the host counts.
//!
//! ```text
//!  client ─▶ HTTP ─▶ unit of the order ─▶ relay ─▶ Kafka ─▶ unit of the stock ─▶ relay ─▶ Kafka ─▶ unit of the order ─▶ client
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::metrics::Metrics;
use crate::caller::Request;
use crate::connection::Connection;
use crate::load::Level;

const TRIPS: u32 = 500;
const BETWEEN_TRIPS: Duration = Duration::from_millis(2);
/// Of one unit, with their labels in `/metrics`.
const STAGES: [&str; 4] = ["open", "plugin", "flush", "commit"];

/// One stop, or several that share a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stop {
    pub(super) name: String,
    pub(super) ms: f64,
}

/// The budget of a lone saga.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Lone {
    /// On the path, in order.
    pub(super) stops: Vec<Stop>,
    /// What no stop accounts for: both times from Kafka to a lane (the broker's answer to the fetch, the
    /// client's threads, the consumer's), and what wakes up whom.
    pub(super) rest_ms: f64,
    /// From the clients' account: seconds by sagas of one client.
    pub(super) mean_ms: f64,
    /// Median.
    pub(super) p50_ms: f64,
}

impl Lone {
    pub(super) fn of(level: &Level, times: &Metrics, trip_ms: f64) -> Self {
        let mean_ms = 1000.0 / level.sagas_per_s;
        let path = Path { times, sagas: level.sagas as f64 };
        let mut stops =
            vec![Stop { name: "client, connection, HTTP: there and back".to_owned(), ms: trip_ms }];
        stops.extend(path.unit("order-orchestrator", "http"));
        stops.extend(path.relay("cmd-order"));
        stops.extend(path.unit("inventory-command", "kafka"));
        stops.extend(path.relay("cmd-inventory"));
        stops.extend(path.unit("order-orchestrator", "kafka"));
        let rest_ms = mean_ms - stops.iter().map(|stop| stop.ms).sum::<f64>();
        Self { stops, rest_ms, mean_ms, p50_ms: level.latency.p50_ms }
    }
}

struct Path<'a> {
    times: &'a Metrics,
    sagas: f64,
}

impl Path<'_> {
    /// One unit of a saga's: its wait in the queue and its stages.
    fn unit(&self, plugin: &str, lane: &str) -> Vec<Stop> {
        let of = |name: &str, stage: &[(&str, &str)]| {
            let labels = [&[("plugin", plugin), ("lane", lane)], stage].concat();
            self.times.sum(name, &labels) / self.sagas * 1000.0
        };
        let stop = |stage: &str, ms| Stop { name: format!("{plugin} ({lane}): {stage}"), ms };
        let stages = STAGES.iter().map(|stage| stop(stage, of("unit_seconds_total", &[("stage", stage)])));
        std::iter::once(stop("queue", of("queue_seconds_total", &[]))).chain(stages).collect()
    }

    /// One unit's way through the relay: a mean, since not every unit of a database is on the path.
    fn relay(&self, database: &str) -> [Stop; 2] {
        let units = self.times.sum("relay_units_total", &[("database", database)]);
        ["hand-over", "acknowledge"].map(|stage| {
            let seconds = self.times.sum("relay_seconds_total", &[("database", database), ("stage", stage)]);
            Stop { name: format!("relay of {database}: {stage}"), ms: seconds / units * 1000.0 }
        })
    }
}

/// How long a request takes that the host refuses before any lane hears of it, on a connection that is open.
///
/// # Errors
/// No connection.
pub(super) async fn trip_ms(address: &str) -> Result<f64> {
    let request = Request::get("/no-such-route").encode(address);
    let mut connection = Connection::open(address).await?;
    let mut took = Duration::ZERO;
    for _ in 0..TRIPS {
        let began = Instant::now();
        connection.exchange(&request, false).await?;
        took += began.elapsed();
        tokio::time::sleep(BETWEEN_TRIPS).await;
    }
    Ok(took.as_secs_f64() * 1000.0 / f64::from(TRIPS))
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Path};

    #[test]
    fn a_unit_is_counted_by_saga_and_a_relay_by_unit() {
        let times = Metrics::parse(
            "saga_host_unit_seconds_total{plugin=\"p\",lane=\"kafka\",stage=\"commit\"} 0.2\n\
             saga_host_unit_seconds_total{plugin=\"p\",lane=\"http\",stage=\"commit\"} 7\n\
             saga_host_queue_seconds_total{plugin=\"p\",lane=\"kafka\"} 0.1\n\
             saga_host_relay_units_total{database=\"d\"} 200\n\
             saga_host_relay_seconds_total{database=\"d\",stage=\"hand-over\"} 0.02\n",
        );
        let path = Path { times: &times, sagas: 100.0 };
        let unit: Vec<f64> = path.unit("p", "kafka").into_iter().map(|stop| stop.ms).collect();
        assert_eq!(unit, [1.0, 0.0, 0.0, 0.0, 2.0]);
        assert!((path.relay("d")[0].ms - 0.1).abs() < 1e-9);
    }
}
