//! The figures in which two sides are compared.

use crate::load::Level;

/// One figure of a run.
pub(super) struct Metric {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// Its name in the JSON.
    pub(super) key: &'static str,
    /// Digits after the point.
    pub(super) digits: usize,
    /// `None` when it is unknown.
    pub(super) of: fn(&Level) -> Option<f64>,
}

/// All of them, in the order in which they are shown.
pub(super) const METRICS: [Metric; 13] = [
    metric("sagas/s", "sagas_per_s", 0, |l| Some(l.sagas_per_s)),
    metric("p50 ms", "p50_ms", 2, |l| Some(l.latency.p50_ms)),
    metric("p99 ms", "p99_ms", 2, |l| Some(l.latency.p99_ms)),
    metric("CPU s per 1,000 sagas: host", "cpu_host", 3, |l| l.cpu_per_1000.host),
    metric("  kafka", "cpu_kafka", 3, |l| l.cpu_per_1000.kafka),
    metric("  postgres", "cpu_postgres", 3, |l| l.cpu_per_1000.postgres),
    metric("  these three", "cpu_system", 3, |l| l.cpu_per_1000.system()),
    metric("  load generator", "cpu_load_generator", 3, |l| Some(l.cpu_per_1000.load_generator)),
    metric("  other processes", "cpu_other", 3, |l| l.cpu_per_1000.other),
    metric("per saga: transactions", "transactions", 3, |l| Some(l.per_saga.transactions)),
    metric("  rows written", "rows", 3, |l| Some(l.per_saga.rows())),
    metric("  WAL bytes", "wal_bytes", 0, |l| Some(l.per_saga.wal_bytes)),
    metric("  Kafka bytes, the six topics", "kafka_bytes", 0, |l| l.per_saga.kafka_bytes),
];

const fn metric(
    name: &'static str,
    key: &'static str,
    digits: usize,
    of: fn(&Level) -> Option<f64>,
) -> Metric {
    Metric { name, key, digits, of }
}

impl Metric {
    /// Its value as a cell.
    pub(super) fn cell(&self, value: Option<f64>) -> String {
        value.map_or("-".to_owned(), |value| format!("{value:.*}", self.digits))
    }
}
