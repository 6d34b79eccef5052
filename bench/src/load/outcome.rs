//! What the clients of a level observed, and the phase of its measurement.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::order_call::Ending;
use crate::latency::Latencies;

/// The phase of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    WarmUp,
    Measure,
    Stop,
}

/// The phase, which all clients read.
#[derive(Debug, Default)]
pub(super) struct Window {
    phase: AtomicU8,
}

impl Window {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }
}

/// What clients observed. Fields that end in `_in_all` include the warm-up.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Latencies of the measured orders.
    pub(super) latencies: Latencies,
    /// Sagas whose end was observed in the measured time.
    pub(super) ended: u64,
    pub(super) confirmed: u64,
    pub(super) cancelled: u64,
    /// 201, but the saga did not end in time.
    pub(super) unfinished: u64,
    /// Another status, or no answer.
    pub(super) errors: u64,
    pub(super) sagas_in_all: u64,
    /// Answers 201.
    pub(super) accepted_in_all: u64,
    /// No 201: it is unknown whether the order was placed.
    pub(super) uncertain_in_all: u64,
    /// Confirmed without stock, or cancelled with enough stock.
    pub(super) wrong_in_all: u64,
    /// Only for an open loop.
    pub(super) backlog: Backlog,
}

/// How an open loop fell behind its rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Most orders that were in flight at once.
    pub(super) in_flight_peak: usize,
    /// Orders that were due while `in_flight_max` were in flight, so they waited.
    pub(super) late: u64,
    /// Orders that were still waiting when the measurement ended. Their latency is the time that they had
    /// waited.
    pub(super) not_started: u64,
}

impl Outcome {
    /// Records the end of one order. `latency` is `None` when the order is not measured.
    pub(super) fn note(&mut self, ending: Ending, stocked: bool, latency: Option<Duration>) {
        match ending {
            Ending::Confirmed | Ending::Cancelled => self.sagas_in_all += 1,
            Ending::Unfinished | Ending::Refused => {}
        }
        match ending {
            Ending::Refused => self.uncertain_in_all += 1,
            _ => self.accepted_in_all += 1,
        }
        let wrong = if stocked { Ending::Cancelled } else { Ending::Confirmed };
        self.wrong_in_all += u64::from(ending == wrong);
        let Some(latency) = latency else { return };
        match ending {
            Ending::Confirmed => self.confirmed += 1,
            Ending::Cancelled => self.cancelled += 1,
            Ending::Unfinished => self.unfinished += 1,
            Ending::Refused => self.errors += 1,
        }
        if ending.is_end() {
            self.latencies.add(latency);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.latencies.join(other.latencies);
        self.ended += other.ended;
        self.confirmed += other.confirmed;
        self.cancelled += other.cancelled;
        self.unfinished += other.unfinished;
        self.errors += other.errors;
        self.sagas_in_all += other.sagas_in_all;
        self.accepted_in_all += other.accepted_in_all;
        self.uncertain_in_all += other.uncertain_in_all;
        self.wrong_in_all += other.wrong_in_all;
        self.backlog.in_flight_peak = self.backlog.in_flight_peak.max(other.backlog.in_flight_peak);
        self.backlog.late += other.backlog.late;
        self.backlog.not_started += other.backlog.not_started;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ending, Outcome};

    #[test]
    fn only_measured_orders_have_a_latency_but_every_wrong_end_counts() {
        let mut outcome = Outcome::default();
        let latency = Some(Duration::from_millis(2));
        for (ending, stocked, latency) in [
            (Ending::Confirmed, true, latency),
            (Ending::Cancelled, false, latency),
            (Ending::Cancelled, true, None),
            (Ending::Confirmed, false, latency),
            (Ending::Unfinished, true, latency),
            (Ending::Refused, true, None),
        ] {
            outcome.note(ending, stocked, latency);
        }
        assert_eq!((outcome.confirmed, outcome.cancelled, outcome.unfinished, outcome.errors), (2, 1, 1, 0));
        assert_eq!((outcome.sagas_in_all, outcome.accepted_in_all, outcome.uncertain_in_all), (4, 5, 1));
        assert_eq!(outcome.wrong_in_all, 2);
        assert_eq!(outcome.latencies.summary().count, 3);
    }
}
