//! The figures of one level: one demand, warmed up, measured.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measure::{Cpu, Memory, Moment};
use super::outcome::{Backlog, Outcome};
use super::shape::Demand;
use super::units::Batches;
use super::written::PerSaga;
use crate::latency;

/// Below this part of its rate an open loop was not sustained.
const SUSTAINED_MIN: f64 = 0.99;

/// One level.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    /// What was demanded.
    pub demand: Demand,
    /// Measured time.
    pub seconds: f64,
    /// Ended in the measured time.
    pub sagas: u64,
    /// The rate achieved.
    pub sagas_per_s: f64,
    /// From the start of an order (in an open loop: from when it was meant to start) to the end of its saga.
    pub latency: latency::Summary,
    /// Orders measured that ended so.
    pub confirmed: u64,
    /// Orders measured that ended so.
    pub cancelled: u64,
    /// Orders measured that were accepted, but whose saga had not ended in 30 s.
    pub unfinished: u64,
    /// Orders measured without a 201.
    pub errors: u64,
    /// Only of an open loop.
    pub open_loop: Option<OpenLoop>,
    /// CPU seconds per 1,000 sagas of the measured time.
    pub cpu_per_1000: Cpu,
    /// Cores that the hypervisor gave to others while this machine wanted them.
    pub stolen_cores: Option<f64>,
    /// Memory.
    pub memory: Memory,
    /// Of the whole level, warm-up included.
    pub per_saga: PerSaga,
    /// By plugin, of the measured time.
    pub batches: BTreeMap<String, Batches>,
}

/// How an open loop held its rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct OpenLoop {
    /// The rate was achieved, and nobody found as many orders in flight as may be.
    pub sustained: bool,
    /// Most orders in flight at once.
    pub in_flight_peak: usize,
    /// Orders that were due while as many were in flight as may be, and waited; in the warm-up too.
    pub late: u64,
    /// Orders still waiting at the end: `latency` counts them for as long as they had waited, so it is a
    /// lower bound.
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

/// What a level consists of, as it was observed.
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
