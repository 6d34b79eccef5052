//! The figures of a load run, as a table and as JSON.

use serde::Serialize;

use super::client::Outcome;
use super::measure::{Cpu, Memory, Moment};
use crate::database::Counters;
use crate::latency;
use crate::output;

const MIB: f64 = 1024.0 * 1024.0;

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) machine: Machine,
    pub(super) levels: Vec<Level>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Whether less than 0.3 cores worked before the load began.
    pub(super) quiet: bool,
    pub(super) busy_cores: f64,
    /// fdatasync of 8 KiB.
    pub(super) flush: latency::Summary,
}

/// One number of clients.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    pub(super) clients: usize,
    pub(super) seconds: f64,
    /// Ended in the measured time.
    pub(super) sagas: usize,
    pub(super) sagas_per_s: f64,
    pub(super) latency: latency::Summary,
    pub(super) confirmed: u64,
    pub(super) cancelled: u64,
    pub(super) unfinished: u64,
    pub(super) wrong: u64,
    pub(super) errors: u64,
    /// CPU seconds per 1,000 sagas of the measured time.
    pub(super) cpu_per_1000: Cpu,
    pub(super) memory: Memory,
    /// Of the whole level, warm-up included, per saga.
    pub(super) per_saga: PerSaga,
}

/// What Postgres did for one saga.
#[derive(Debug, Serialize)]
pub(super) struct PerSaga {
    pub(super) transactions: f64,
    pub(super) inserted: f64,
    pub(super) updated: f64,
    pub(super) deleted: f64,
    pub(super) wal_bytes: f64,
}

impl Machine {
    pub(super) fn line(&self) -> String {
        let quiet = if self.quiet { "quiet" } else { "NOT QUIET" };
        format!(
            "{} cores, {quiet} ({:.2} busy before the load); fdatasync of 8 KiB: p50 {:.2} ms, p99 {:.2} ms",
            self.cores, self.busy_cores, self.flush.p50_ms, self.flush.p99_ms
        )
    }
}

impl Level {
    pub(super) fn new(
        clients: usize,
        outcome: Outcome,
        before: &Moment,
        after: &Moment,
        memory: Memory,
        counters: Counters,
    ) -> Self {
        let seconds = after.seconds_since(before);
        let latency = outcome.latencies.summary();
        let thousands = latency.count.max(1) as f64 / 1000.0;
        let cpu = after.cpu_since(before);
        let each = |count: i64| count as f64 / outcome.sagas_in_all.max(1) as f64;
        Self {
            clients,
            seconds,
            sagas: latency.count,
            sagas_per_s: latency.count as f64 / seconds,
            latency,
            confirmed: outcome.confirmed,
            cancelled: outcome.cancelled,
            unfinished: outcome.unfinished,
            wrong: outcome.wrong,
            errors: outcome.errors,
            cpu_per_1000: Cpu {
                host: cpu.host.map(|seconds| seconds / thousands),
                kafka: cpu.kafka.map(|seconds| seconds / thousands),
                postgres: cpu.postgres.map(|seconds| seconds / thousands),
                load_generator: cpu.load_generator / thousands,
                other: cpu.other.map(|seconds| seconds / thousands),
            },
            memory,
            per_saga: PerSaga {
                transactions: each(counters.transactions),
                inserted: each(counters.inserted),
                updated: each(counters.updated),
                deleted: each(counters.deleted),
                wal_bytes: each(counters.wal_bytes),
            },
        }
    }
}

impl Summary {
    pub(super) fn table(&self) -> String {
        let row = |name: &str, cell: &dyn Fn(&Level) -> String| {
            let mut row = vec![name.to_owned()];
            row.extend(self.levels.iter().map(cell));
            row
        };
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let mib = |value: Option<u64>| value.map_or("-".to_owned(), |value| format!("{:.0}", value as f64 / MIB));
        output::table(&[
            row("clients", &|l| l.clients.to_string()),
            row("sagas/s", &|l| format!("{:.0}", l.sagas_per_s)),
            row("p50 ms", &|l| format!("{:.2}", l.latency.p50_ms)),
            row("p99 ms", &|l| format!("{:.2}", l.latency.p99_ms)),
            row("longest ms", &|l| format!("{:.2}", l.latency.max_ms)),
            row("confirmed", &|l| l.confirmed.to_string()),
            row("cancelled", &|l| l.cancelled.to_string()),
            row("unfinished", &|l| l.unfinished.to_string()),
            row("wrong", &|l| l.wrong.to_string()),
            row("errors", &|l| l.errors.to_string()),
            row("CPU s per 1,000 sagas: host", &|l| seconds(l.cpu_per_1000.host)),
            row("  kafka", &|l| seconds(l.cpu_per_1000.kafka)),
            row("  postgres", &|l| seconds(l.cpu_per_1000.postgres)),
            row("  load generator", &|l| seconds(Some(l.cpu_per_1000.load_generator))),
            row("  other processes", &|l| seconds(l.cpu_per_1000.other)),
            row("per saga: transactions", &|l| format!("{:.2}", l.per_saga.transactions)),
            row("  rows inserted", &|l| format!("{:.2}", l.per_saga.inserted)),
            row("  rows updated", &|l| format!("{:.2}", l.per_saga.updated)),
            row("  rows deleted", &|l| format!("{:.2}", l.per_saga.deleted)),
            row("  WAL bytes", &|l| format!("{:.0}", l.per_saga.wal_bytes)),
            row("peak MiB: host", &|l| mib(l.memory.host_peak)),
            row("  kafka", &|l| mib(l.memory.kafka_peak)),
            row("  postgres (now, shared once)", &|l| mib(l.memory.postgres_now)),
            row("  load generator", &|l| mib(l.memory.load_generator_peak)),
        ])
    }
}
