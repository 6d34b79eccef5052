//! How much time the units of a lane spend in each stage, summed up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::unit_histogram;

/// A part of a unit, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// BEGIN, fences, saga locks: one round trip to Postgres.
    Open,
    /// Instance, call and the plugin's own statements; materializing its effects.
    Plugin,
    /// All the host's writes: one round trip.
    Flush,
    /// COMMIT: one round trip, and a write to disk.
    Commit,
}

impl Stage {
    /// All of them, with their names in the metrics.
    pub const NAMED: [(Self, &str); 4] =
        [(Self::Open, "open"), (Self::Plugin, "plugin"), (Self::Flush, "flush"), (Self::Commit, "commit")];
}

/// How long the units of one lane took, failed ones included.
#[derive(Debug)]
pub struct Stages {
    nanos: [AtomicU64; Stage::NAMED.len()],
    /// Units that reached their COMMIT, as a whole.
    pub units: Histogram,
    /// Their COMMIT alone.
    pub commits: Histogram,
}

impl Default for Stages {
    fn default() -> Self {
        Self { nanos: Default::default(), units: unit_histogram(), commits: unit_histogram() }
    }
}

impl Stages {
    /// The time spent in a stage since the host started.
    #[must_use]
    pub fn spent(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.nanos[stage as usize].load(Ordering::Relaxed))
    }

    /// Starts to time a unit.
    #[must_use]
    pub fn start(&self) -> Laps<'_> {
        let now = Instant::now();
        Laps { stages: self, started: now, since: now }
    }
}

/// Times the unit that runs.
#[derive(Debug)]
pub struct Laps<'a> {
    stages: &'a Stages,
    started: Instant,
    since: Instant,
}

impl Laps<'_> {
    /// Counts the time since the last end under `stage`.
    pub fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        let nanos = u64::try_from((now - self.since).as_nanos()).unwrap_or(u64::MAX);
        self.stages.nanos[stage as usize].fetch_add(nanos, Ordering::Relaxed);
        if stage == Stage::Commit {
            self.stages.commits.observe((now - self.since).as_secs_f64());
            self.stages.units.observe((now - self.started).as_secs_f64());
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stage, Stages};

    #[test]
    fn every_moment_counts_in_one_stage() {
        let stages = Stages::default();
        let mut laps = stages.start();
        let started = laps.since;
        laps.end(Stage::Open);
        laps.end(Stage::Commit);
        let whole = laps.since - started;
        assert_eq!(stages.spent(Stage::Open) + stages.spent(Stage::Commit), whole);
        assert_eq!(stages.spent(Stage::Flush), Duration::ZERO);
    }
}
