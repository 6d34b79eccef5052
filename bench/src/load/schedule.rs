//! When the orders of an open loop are due. Pure: no clock here.

use std::time::Duration;

/// A fixed rate over a warm-up and a measured time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) rate_per_s: u32,
    pub(super) warmup: Duration,
    pub(super) measure: Duration,
}

impl Schedule {
    /// When order `number` is due, from the beginning. It is computed from the number alone, so errors do not
    /// add up.
    pub(super) fn start(&self, number: u64) -> Duration {
        let rate = u64::from(self.rate_per_s.max(1));
        Duration::from_secs(number / rate) + Duration::from_nanos((number % rate) * 1_000_000_000 / rate)
    }

    /// The due times of all orders.
    pub(super) fn starts(self) -> impl Iterator<Item = Duration> {
        let end = self.warmup + self.measure;
        (0..).map(move |number| self.start(number)).take_while(move |start| *start < end)
    }

    /// Whether an order that is due then is measured.
    pub(super) fn measures(&self, start: Duration) -> bool {
        start >= self.warmup && start < self.warmup + self.measure
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Schedule;

    fn schedule(rate_per_s: u32) -> Schedule {
        Schedule { rate_per_s, warmup: Duration::from_secs(2), measure: Duration::from_secs(3) }
    }

    #[test]
    fn a_rate_is_kept_exactly_and_for_ever() {
        for rate in [1, 3, 500, 7919] {
            let schedule = schedule(rate);
            let starts: Vec<Duration> = schedule.starts().collect();
            assert_eq!(starts.len(), 5 * rate as usize);
            assert_eq!(starts.iter().filter(|start| schedule.measures(**start)).count(), 3 * rate as usize);
            assert!(starts.is_sorted_by(|a, b| a < b));
            assert_eq!(schedule.start(1_000_000 * u64::from(rate)), Duration::from_secs(1_000_000));
        }
        assert_eq!(schedule(3).start(2), Duration::from_nanos(666_666_666));
    }

    #[test]
    fn the_warm_up_is_not_measured() {
        let schedule = schedule(10);
        let at = |ms| schedule.measures(Duration::from_millis(ms));
        assert_eq!([at(0), at(1999), at(2000), at(4999), at(5000)], [false, false, true, true, false]);
    }
}
