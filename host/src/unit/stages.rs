//! How much time the units of a lane spend in each stage, summed up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A part of a unit, in order.
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

/// Of one lane, failed units included.
#[derive(Debug, Default)]
pub struct Stages([AtomicU64; Stage::NAMED.len()]);

impl Stages {
    /// The time spent in a stage since the host started.
    #[must_use]
    pub fn spent(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.0[stage as usize].load(Ordering::Relaxed))
    }

    /// Starts to time a unit.
    #[must_use]
    pub fn start(&self) -> Laps<'_> {
        Laps { stages: self, since: Instant::now() }
    }
}

/// Times the unit that runs.
#[derive(Debug)]
pub struct Laps<'a> {
    stages: &'a Stages,
    since: Instant,
}

impl Laps<'_> {
    /// Counts the time since the last end under `stage`.
    pub fn end(&mut self, stage: Stage) {
        let now = Instant::now();
        let nanos = u64::try_from((now - self.since).as_nanos()).unwrap_or(u64::MAX);
        self.stages.0[stage as usize].fetch_add(nanos, Ordering::Relaxed);
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
        std::thread::sleep(Duration::from_millis(2));
        laps.end(Stage::Commit);
        let whole = laps.since - started;
        assert!(stages.spent(Stage::Commit) >= Duration::from_millis(2));
        assert_eq!(stages.spent(Stage::Open) + stages.spent(Stage::Commit), whole);
        assert_eq!(stages.spent(Stage::Flush), Duration::ZERO);
    }
}
