//! The figures of a load run, as a table and as JSON.

use std::collections::BTreeSet;

use serde::Serialize;

use super::level::Level;
use crate::machine::Machine;
use saga_testkit::output;

const MIB: f64 = 1024.0 * 1024.0;
const UNKNOWN: &str = "-";

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) machine: Machine,
    pub(super) levels: Vec<Level>,
    /// How many invariants and counts were checked after the load. All of them hold.
    pub(super) checks: usize,
}

type Cell<'a> = &'a dyn Fn(&Level) -> String;

impl Summary {
    pub(super) fn table(&self) -> String {
        let mut rows = Vec::new();
        rows.extend(self.rates());
        rows.extend(self.costs());
        rows.extend(self.batches());
        rows.extend(self.memory());
        output::table(&rows)
    }

    fn row(&self, name: &str, cell: Cell<'_>) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        row.extend(self.levels.iter().map(cell));
        row
    }

    fn rates(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            self.row("load", &|l| l.demand.to_string()),
            self.row("sagas/s", &|l| format!("{:.0}", l.sagas_per_s)),
            self.row("p50 ms", &|l| format!("{:.2}", l.latency.p50_ms)),
            self.row("p99 ms", &|l| format!("{:.2}", l.latency.p99_ms)),
            self.row("longest ms", &|l| format!("{:.2}", l.latency.max_ms)),
            self.row("confirmed", &|l| l.confirmed.to_string()),
            self.row("cancelled", &|l| l.cancelled.to_string()),
            self.row("unfinished", &|l| l.unfinished.to_string()),
            self.row("errors", &|l| l.errors.to_string()),
        ];
        if self.levels.iter().any(|level| level.open_loop.is_some()) {
            let count = |value: Option<u64>| value.map_or(UNKNOWN.to_owned(), |value| value.to_string());
            let sustained = |sustained| if sustained { "yes" } else { "NO" };
            rows.extend([
                self.row("open loop: sustained", &|l| {
                    l.open_loop.map_or(UNKNOWN, |open| sustained(open.sustained)).to_owned()
                }),
                self.row("  in flight, peak", &|l| count(l.open_loop.map(|open| open.in_flight_peak as u64))),
                self.row("  started late, none free", &|l| count(l.open_loop.map(|open| open.late))),
                self.row("  never started", &|l| count(l.open_loop.map(|open| open.not_started))),
            ]);
        }
        rows
    }

    fn costs(&self) -> Vec<Vec<String>> {
        let seconds = |value: Option<f64>| value.map_or(UNKNOWN.to_owned(), |value| format!("{value:.3}"));
        let bytes = |value: Option<f64>| value.map_or(UNKNOWN.to_owned(), |value| format!("{value:.0}"));
        vec![
            self.row("CPU s per 1,000 sagas: host", &|l| seconds(l.cpu_per_1000.host)),
            self.row("  kafka", &|l| seconds(l.cpu_per_1000.kafka)),
            self.row("  postgres", &|l| seconds(l.cpu_per_1000.postgres)),
            self.row("  these three", &|l| seconds(l.cpu_per_1000.system())),
            self.row("  load generator", &|l| seconds(Some(l.cpu_per_1000.load_generator))),
            self.row("  other processes", &|l| seconds(l.cpu_per_1000.other)),
            self.row("cores stolen by the hypervisor", &|l| seconds(l.stolen_cores)),
            self.row("per saga: transactions", &|l| format!("{:.2}", l.per_saga.transactions)),
            self.row("  rows inserted", &|l| format!("{:.2}", l.per_saga.inserted)),
            self.row("  rows updated", &|l| format!("{:.2}", l.per_saga.updated)),
            self.row("  rows deleted", &|l| format!("{:.2}", l.per_saga.deleted)),
            self.row("  WAL bytes", &|l| bytes(Some(l.per_saga.wal_bytes))),
            self.row("  Kafka bytes, the six topics", &|l| bytes(l.per_saga.kafka_bytes)),
            self.row("  Kafka bytes, offsets", &|l| bytes(l.per_saga.kafka_offsets_bytes)),
        ]
    }

    fn batches(&self) -> Vec<Vec<String>> {
        let plugins: BTreeSet<&String> = self.levels.iter().flat_map(|level| level.batches.keys()).collect();
        let rows = plugins.into_iter().enumerate().map(|(number, plugin)| {
            let name =
                if number == 0 { format!("deliveries per unit: {plugin}") } else { format!("  {plugin}") };
            self.row(&name, &|level| {
                let batches = level.batches.get(plugin);
                batches.map_or(UNKNOWN.to_owned(), |batches| format!("{:.1}", batches.per_unit))
            })
        });
        rows.collect()
    }

    fn memory(&self) -> Vec<Vec<String>> {
        let mib = |value: Option<u64>| {
            value.map_or(UNKNOWN.to_owned(), |value| format!("{:.0}", value as f64 / MIB))
        };
        vec![
            self.row("peak MiB: host", &|l| mib(l.memory.host_peak)),
            self.row("  kafka", &|l| mib(l.memory.kafka_peak)),
            self.row("  postgres (at the end, shared once)", &|l| mib(l.memory.postgres_now)),
            self.row("  load generator", &|l| mib(l.memory.load_generator_peak)),
        ]
    }
}
