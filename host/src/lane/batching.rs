//! When a lane begins its next unit. A unit costs about the same however little is in it, so on a
//! busy machine fewer, larger units do more. A lane therefore rests after a unit for as long as its
//! units take; they take longer as the machine gets busier, and so does the rest. What arrives
//! after the rest, as a lone delivery does, begins its unit at once.

use std::time::Duration;

use tokio::time::Instant;

/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(50);

/// A lane's last units.
#[derive(Debug)]
pub(super) struct Pace {
    started_at: Instant,
    ended_at: Instant,
    /// How long a unit takes: of the last ones, the newest counting most.
    takes: Duration,
}

impl Pace {
    /// Of a lane that has run nothing yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { started_at: now, ended_at: now, takes: Duration::ZERO }
    }

    /// Waits until the next unit may begin, at least `gather` after the start of the one before.
    pub(super) async fn rest(&self, gather: Duration) {
        let begin_at = self.begin_at(gather);
        if begin_at > Instant::now() {
            tokio::time::sleep_until(begin_at).await;
        }
    }

    /// A unit begins now.
    pub(super) fn start(&mut self) {
        self.started_at = Instant::now();
    }

    /// It has ended. Gives how long a unit takes.
    pub(super) fn end(&mut self) -> Duration {
        self.ended_at = Instant::now();
        self.took(self.ended_at - self.started_at);
        self.takes
    }

    fn took(&mut self, took: Duration) {
        self.takes = (self.takes * 3 + took.min(REST_MAX)) / 4;
    }

    fn begin_at(&self, gather: Duration) -> Instant {
        (self.started_at + gather).max(self.ended_at + self.takes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Pace, REST_MAX};

    const MS: Duration = Duration::from_millis(1);

    /// A lane whose unit has just ended, after `units` of `took` each.
    fn after(units: usize, took: Duration) -> (Pace, Instant) {
        let ended_at = Instant::now();
        let mut pace = Pace { started_at: ended_at, ended_at, takes: Duration::ZERO };
        for _ in 0..units {
            pace.took(took);
        }
        pace.started_at = ended_at - took;
        (pace, ended_at)
    }

    #[test]
    fn a_lane_rests_for_as_long_as_its_units_take() {
        for (units, took, rests) in
            [(0, MS, Duration::ZERO), (100, 8 * MS, 8 * MS), (100, 400 * MS, REST_MAX)]
        {
            let (pace, ended_at) = after(units, took);
            let rest = pace.begin_at(Duration::ZERO) - ended_at;
            assert!(rest <= rests && rest + MS / 10 >= rests, "{units} units of {took:?}: {rest:?}");
        }
    }

    #[test]
    fn a_read_model_starts_its_units_apart() {
        let (pace, ended_at) = after(1, 4 * MS);
        assert_eq!(pace.begin_at(50 * MS) - ended_at, 46 * MS);
    }
}
