//! What a storm of swaps did to those who were served meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Turned, handled::Handled};
use crate::latency::{self, Latencies};
use crate::load::Seen;
use crate::machine::Machine;
use saga_testkit::output;
use saga_testkit::report::{Report, at_most};

const PAUSE_P99_MS_MAX: f64 = 50.0;
const READS_P99_RATIO_MAX: f64 = 1.2;
const MEMORY_RATIO_MAX: f64 = 1.1;
const MIB: f64 = 1024.0 * 1024.0;

/// Calm, or storm.
#[derive(Default)]
pub(super) struct Part {
    gaps: Latencies,
    reads: Latencies,
}

impl Part {
    pub(super) fn add(&mut self, gaps: Vec<Duration>, reads: Latencies) {
        gaps.into_iter().for_each(|gap| self.gaps.add(gap));
        self.reads.join(reads);
    }
}

/// Figures of a part.
#[derive(Debug, Serialize)]
struct Figures {
    /// The longest time without the end of a saga, of each stretch after a swap, or of as long a stretch
    /// without.
    gaps: latency::Summary,
    /// Requests of routes of plugins that are not swapped.
    reads: latency::Summary,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    machine: Machine,
    swaps: usize,
    sagas: u64,
    unfinished: u64,
    errors: u64,
    calm: Figures,
    storm: Figures,
    /// Resident bytes of the host after the first swaps, and after the last.
    memory: [Option<u64>; 2],
    #[serde(skip)]
    both_handled: Vec<(String, Result<()>)>,
}

impl Summary {
    pub(super) fn of(machine: Machine, swaps: usize, turned: Turned, seen: Seen) -> Self {
        let figures = |part: Part| Figures { gaps: part.gaps.summary(), reads: part.reads.summary() };
        Self {
            machine,
            swaps,
            sagas: seen.ended,
            unfinished: seen.unfinished,
            errors: seen.errors,
            calm: figures(turned.calm),
            storm: figures(turned.storm),
            memory: turned.memory,
            both_handled: turned.handled.iter().map(Handled::both_handled).collect(),
        }
    }

    /// What is promised of swaps.
    pub(super) fn judge(&self, report: &mut Report) {
        report.area("what was promised");
        report.note(format!("none of {} requests failed", self.sagas), none(self.errors + self.unfinished));
        for (name, outcome) in &self.both_handled {
            report.note(name, outcome.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}")));
        }
        report.note(
            format!(
                "after 99 of 100 swaps, no saga ended for at most {PAUSE_P99_MS_MAX} ms more than without"
            ),
            at_most(self.storm.gaps.p99_ms - self.calm.gaps.p99_ms, PAUSE_P99_MS_MAX),
        );
        report.note(
            format!(
                "p99 of the other plugins' routes: at most {READS_P99_RATIO_MAX} times that without swaps"
            ),
            at_most(self.storm.reads.p99_ms / self.calm.reads.p99_ms, READS_P99_RATIO_MAX),
        );
        if let [Some(first), Some(last)] = self.memory {
            report.note(
                format!("the host's memory: at most {MEMORY_RATIO_MAX} times that after the first swaps"),
                at_most(last as f64 / first as f64, MEMORY_RATIO_MAX),
            );
        }
    }

    pub(super) fn table(&self) -> String {
        let row = |name: &str, of: &dyn Fn(&Figures) -> f64| {
            vec![name.to_owned(), format!("{:.2}", of(&self.calm)), format!("{:.2}", of(&self.storm))]
        };
        let mib =
            |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.0}", bytes as f64 / MIB));
        output::table(&[
            vec![format!("{} swaps, {} sagas", self.swaps, self.sagas), "calm".into(), "storm".into()],
            row("no saga ended for, ms: p50", &|f| f.gaps.p50_ms),
            row("  p99", &|f| f.gaps.p99_ms),
            row("  longest", &|f| f.gaps.max_ms),
            row("reads ms: p50", &|f| f.reads.p50_ms),
            row("  p99", &|f| f.reads.p99_ms),
            vec!["host MiB, first swaps and last".into(), mib(self.memory[0]), mib(self.memory[1])],
        ])
    }
}

fn none(count: u64) -> Result<()> {
    ensure!(count == 0, "{count} did");
    Ok(())
}
