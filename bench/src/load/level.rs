//! The figures of one level: one demand, warmed up and measured.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measure::{Cpu, Memory, Moment};
use super::outcome::{Backlog, Outcome};
use super::shape::Demand;
use super::units::Batches;
use super::written::PerSaga;
use crate::latency;

/// An open loop that achieves less than this part of its rate did not sustain it.
const SUSTAINED_MIN: f64 = 0.99;

/// One level.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    /// What was demanded.
    pub demand: Demand,
    /// Measured time.
    pub seconds: f64,
    /// Sagas that ended in the measured time.
    pub sagas: u64,
    /// The rate achieved.
    pub sagas_per_s: f64,
    /// From the start of an order to the end of its saga. In an open loop, it counts from when the order was
    /// due.
    pub latency: latency::Summary,
    /// Measured orders that were confirmed.
    pub confirmed: u64,
    /// Measured orders that were cancelled.
    pub cancelled: u64,
    /// Measured orders that were accepted, but whose saga did not end within 30 s.
    pub unfinished: u64,
    /// Measured orders without a 201.
    pub errors: u64,
    /// Only for an open loop.
    pub open_loop: Option<OpenLoop>,
    /// CPU seconds per 1,000 sagas of the measured time.
    pub cpu_per_1000: Cpu,
    /// CPU that the hypervisor gave to other machines, in cores.
    pub stolen_cores: Option<f64>,
    /// Resident memory of the processes.
    pub memory: Memory,
    /// What was written per saga, over the whole level with its warm-up.
    pub per_saga: PerSaga,
    /// Batches by plugin, in the measured time.
    pub batches: BTreeMap<String, Batches>,
}

/// How an open loop held its rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OpenLoop {
    /// Whether the rate was achieved, and no order had to wait because of `in_flight_max`.
    pub sustained: bool,
    /// Most orders in flight at once.
    pub in_flight_peak: usize,
    /// Orders that were due while `in_flight_max` were in flight, so they waited; also in the warm-up.
    pub late: u64,
    /// Orders that were still waiting at the end. `latency` counts them with the time that they had waited,
    /// so it is a lower bound.
    pub not_started: u64,
}

impl OpenLoop {
    fn of(demand: Demand, backlog: Backlog, sagas_per_s: f64) -> Option<Self> {
        let Demand::Rate { per_s, .. } = demand else { return None };
        let Backlog { in_flight_peak, late, not_started } = backlog;
        let achieved = sagas_per_s >= SUSTAINED_MIN * f64::from(per_s);
        Some(Self { sustained: achieved && late == 0 && not_started == 0, in_flight_peak, late, not_started })
    }
}

/// The observations from which the figures of a level are computed.
pub(super) struct Observed {
    pub(super) demand: Demand,
    pub(super) outcome: Outcome,
    pub(super) before: Moment,
    pub(super) after: Moment,
    pub(super) memory: Memory,
    pub(super) per_saga: PerSaga,
    pub(super) batches: BTreeMap<String, Batches>,
}

impl Level {
    pub(super) fn of(observed: Observed) -> Self {
        let Observed { demand, outcome, before, after, memory, per_saga, batches } = observed;
        let seconds = after.seconds_since(&before);
        let sagas_per_s = outcome.ended as f64 / seconds;
        Self {
            demand,
            seconds,
            sagas: outcome.ended,
            sagas_per_s,
            latency: outcome.latencies.summary(),
            confirmed: outcome.confirmed,
            cancelled: outcome.cancelled,
            unfinished: outcome.unfinished,
            errors: outcome.errors,
            open_loop: OpenLoop::of(demand, outcome.backlog, sagas_per_s),
            cpu_per_1000: after.cpu_since(&before).per(outcome.ended.max(1) as f64 / 1000.0),
            stolen_cores: after.stolen_since(&before).map(|stolen| stolen / seconds),
            memory,
            per_saga,
            batches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backlog, Demand, OpenLoop};

    #[test]
    fn a_rate_is_sustained_when_it_is_achieved_and_nobody_waited() {
        let demand = Demand::Rate { per_s: 1000, in_flight_max: 50 };
        let sustained =
            |backlog, achieved| OpenLoop::of(demand, backlog, achieved).is_some_and(|open| open.sustained);
        let free = Backlog { in_flight_peak: 49, late: 0, not_started: 0 };
        assert!(sustained(free, 998.0));
        assert!(!sustained(free, 980.0));
        assert!(!sustained(Backlog { late: 1, ..free }, 1000.0));
        assert!(OpenLoop::of(Demand::Clients(3), free, 1000.0).is_none());
    }
}
