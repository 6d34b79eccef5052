//! How much one unit takes, and when the next one starts.
//!
//! A unit costs about the same however small it is, so on a busy machine fewer, larger units do more. A lane
//! therefore pauses after a unit for as long as its units take: they take longer as the machine gets busier,
//! and so does the pause. A delivery that arrives after the pause, as a lone one does, starts its unit at
//! once.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::policy::Limits;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How many items, and how many bytes of them, a batch still takes.
#[derive(Debug)]
pub(super) struct BatchLimit {
    items_left: u32,
    bytes_left: usize,
    is_empty: bool,
}

impl BatchLimit {
    /// An empty batch within the limits of a policy.
    pub(super) fn new(limits: &Limits) -> Self {
        Self { items_left: limits.batch_deliveries_max, bytes_left: limits.call_bytes_max, is_empty: true }
    }

    /// Whether the batch takes an item of this size. The first one is taken however large it is.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let takes = self.items_left > 0 && (self.is_empty || self.bytes_left >= bytes);
        self.items_left = self.items_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.is_empty = false;
        takes
    }
}

/// The durations of a lane's last units, and when the next one may start.
#[derive(Debug)]
pub(super) struct BatchTimer {
    started_at: Instant,
    ended_at: Instant,
    /// Moving average of the unit duration; the newest unit counts a quarter.
    unit_duration: Duration,
}

impl BatchTimer {
    /// For a lane that has run no unit yet.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { started_at: now, ended_at: now, unit_duration: Duration::ZERO }
    }

    /// Waits until the next unit may start, at least `gather` after the start of the previous one.
    pub(super) async fn pause(&self, gather: Duration) {
        let start_at = self.start_at(gather);
        if start_at > Instant::now() {
            tokio::time::sleep_until(start_at).await;
        }
    }

    /// Records that a unit starts.
    pub(super) fn start(&mut self) {
        self.started_at = Instant::now();
    }

    /// Records that the unit has ended. Returns the average duration of units.
    pub(super) fn end(&mut self) -> Duration {
        self.ended_at = Instant::now();
        self.record(self.ended_at - self.started_at);
        self.unit_duration
    }

    fn record(&mut self, unit: Duration) {
        self.unit_duration = (self.unit_duration * 3 + unit.min(PAUSE_MAX)) / 4;
    }

    fn start_at(&self, gather: Duration) -> Instant {
        (self.started_at + gather).max(self.ended_at + self.unit_duration)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{BatchLimit, BatchTimer, PAUSE_MAX};
    use crate::model::policy::Limits;

    const MS: Duration = Duration::from_millis(1);

    /// The timer of a lane after `units` of `duration` each, and when the last one ended.
    fn after(units: usize, duration: Duration) -> (BatchTimer, Instant) {
        let ended_at = Instant::now();
        let mut timer = BatchTimer { started_at: ended_at, ended_at, unit_duration: Duration::ZERO };
        for _ in 0..units {
            timer.record(duration);
        }
        timer.started_at = ended_at - duration;
        (timer, ended_at)
    }

    #[test]
    fn a_lane_pauses_for_as_long_as_its_units_take() {
        for (units, duration, expected) in
            [(0, MS, Duration::ZERO), (100, 8 * MS, 8 * MS), (100, 400 * MS, PAUSE_MAX)]
        {
            let (timer, ended_at) = after(units, duration);
            let pause = timer.start_at(Duration::ZERO) - ended_at;
            assert!(
                pause <= expected && pause + MS / 10 >= expected,
                "{units} units of {duration:?}: {pause:?}"
            );
        }
    }

    #[test]
    fn a_read_model_starts_its_units_apart() {
        let (timer, ended_at) = after(1, 4 * MS);
        assert_eq!(timer.start_at(50 * MS) - ended_at, 46 * MS);
    }

    #[test]
    fn a_batch_ends_at_its_limits_and_takes_one_item_of_any_size() {
        let limits = Limits { batch_deliveries_max: 3, call_bytes_max: 100, ..Limits::default() };
        for (sizes, taken) in [(&[10, 10, 10, 10][..], 3), (&[500, 1], 1), (&[60, 50], 1), (&[60, 40, 1], 2)]
        {
            let mut limit = BatchLimit::new(&limits);
            assert_eq!(sizes.iter().take_while(|size| limit.takes(**size)).count(), taken, "{sizes:?}");
        }
    }
}
