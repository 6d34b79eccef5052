//! The clock of units, records and sagas: that of Postgres, which all hosts of a database share. Whatever a
//! host's own clock says, no record, deadline or saga has its time.

use std::time::Instant;

/// The time of the database: what it said when a unit was opened, and the time since then.
#[derive(Clone, Copy, Debug)]
pub struct UnitClock {
    opened_us: i64,
    opened_at: Instant,
}

impl UnitClock {
    /// A clock that was at `now_us`, microseconds since 1970, just now.
    #[must_use]
    pub fn started_at(now_us: i64) -> Self {
        Self { opened_us: now_us, opened_at: Instant::now() }
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        let since = i64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.opened_us.saturating_add(since)
    }
}

impl Default for UnitClock {
    /// Before Postgres has answered.
    fn default() -> Self {
        Self::started_at(0)
    }
}
