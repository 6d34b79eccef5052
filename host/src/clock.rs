//! The time as units, records and sagas carry it.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::SystemTime,
};

static LATEST_US: AtomicI64 = AtomicI64::new(0);

/// Microseconds since 1970. Never steps back while the host runs: whoever compares what it sent by
/// time must not see the order turned round when the machine's clock is set.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    latest(&LATEST_US, i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn latest(before: &AtomicI64, now: i64) -> i64 {
    before.fetch_max(now, Ordering::Relaxed).max(now)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::latest;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let before = AtomicI64::new(0);
        let told = [10, 12, 7, 11, 13].map(|now| latest(&before, now));
        assert_eq!(told, [10, 12, 12, 12, 13]);
    }
}
