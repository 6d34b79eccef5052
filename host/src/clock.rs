//! The clock of units, records and sagas.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::SystemTime,
};

static LATEST_US: AtomicI64 = AtomicI64::new(0);

/// Microseconds since 1970. Never decreases while the host runs, so that records keep the order of their
/// timestamps when the machine's clock is set back.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    never_decreasing(&LATEST_US, i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn never_decreasing(latest: &AtomicI64, now: i64) -> i64 {
    latest.fetch_max(now, Ordering::Relaxed).max(now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::never_decreasing;

    #[test]
    fn a_clock_that_is_set_back_repeats_the_latest_time() {
        let latest = AtomicI64::new(0);
        let times = [10, 12, 7, 11, 13].map(|now| never_decreasing(&latest, now));
        assert_eq!(times, [10, 12, 12, 12, 13]);
    }
}
