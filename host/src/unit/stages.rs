//! Where the units of a lane spend their time, added up. What is told of a lone message is told of each stop
//! on its way.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A part of a unit, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// BEGIN, fences, sagas: one trip to Postgres.
    Open,
    /// Instance, call, the plugin's own statements; what they gave turned into rows.
    Plugin,
    /// All the host's writes: one trip.
    Close,
    /// COMMIT: one trip, and a flush to disk.
    Commit,
}

impl Stage {
    /// All of them, with their names in the metrics.
    pub const NAMED: [(Self, &str); 4] =
        [(Self::Open, "open"), (Self::Plugin, "plugin"), (Self::Close, "close"), (Self::Commit, "commit")];
}

/// What one lane has spent, failed units included.
#[derive(Debug, Default)]
pub struct Stages([AtomicU64; Stage::NAMED.len()]);

impl Stages {
    /// The time spent in a stage since the host started.
    #[must_use]
    pub fn spent(&self, stage: Stage) -> Duration {
        Duration::from_nanos(self.0[stage as usize].load(Ordering::Relaxed))
    }

    /// Begins to time a unit.
    #[must_use]
    pub fn begin(&self) -> Laps<'_> {
        Laps { stages: self, since: Instant::now() }
    }
}

/// The unit that runs.
#[derive(Debug)]
pub struct Laps<'a> {
    stages: &'a Stages,
    since: Instant,
}

impl Laps<'_> {
    /// The time since the last end belongs to `stage`.
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
    fn each_moment_belongs_to_one_stage() {
        let stages = Stages::default();
        let mut laps = stages.begin();
        let began = laps.since;
        laps.end(Stage::Open);
        laps.end(Stage::Commit);
        let whole = laps.since - began;
        assert_eq!(stages.spent(Stage::Open) + stages.spent(Stage::Commit), whole);
        assert_eq!(stages.spent(Stage::Close), Duration::ZERO);
    }
}
