//! The two budgets, as tables and as JSON.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::lone::Lone;
use super::metrics::Metrics;
use super::tally::{Owner, Tally};
use crate::load::Level;
use crate::machine::Machine;
use crate::output;
use crate::report::Report;
use crate::service::SERVICES;

const MICROS: f64 = 1e6;
/// What may be in no stop, of the whole.
const REST_MAX: f64 = 0.15;

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) machine: Machine,
    pub(super) hosts: u32,
    pub(super) busy: Busy,
    pub(super) lone: Lone,
    /// Invariants and counts that were checked after the load; all of them hold.
    pub(super) checks: usize,
}

/// Where the CPU time goes under load.
#[derive(Debug, Serialize)]
pub(super) struct Busy {
    pub(super) level: Level,
    pub(super) parts: Vec<Part>,
    pub(super) lanes: Vec<Lane>,
}

/// How much of the time a lane had a unit open: it runs one at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) busy: f64,
}

/// One of the three: its stops against what `/proc` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) owner: &'static str,
    pub(super) stops: Vec<Cost>,
    /// By `/proc`, microseconds of CPU per saga.
    pub(super) measured_us: f64,
}

/// CPU of one stop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) stop: &'static str,
    /// By the profile, microseconds of CPU per saga.
    pub(super) us: f64,
}

impl Busy {
    pub(super) fn of(level: Level, tally: &Tally, samples_per_s: f64, times: &Metrics) -> Self {
        let cpu = level.cpu_per_1000;
        let stops = tally.stops();
        let part = |owner, name, measured: Option<f64>| {
            let of = stops.iter().filter(|(of, ..)| *of == owner);
            let stops = of.map(|(_, stop, samples)| Cost {
                stop,
                us: *samples as f64 / samples_per_s / level.sagas as f64 * MICROS,
            });
            Part {
                owner: name,
                stops: stops.collect(),
                measured_us: measured.unwrap_or_default() / 1000.0 * MICROS,
            }
        };
        let parts = vec![
            part(Owner::Host, "host", cpu.host),
            part(Owner::Kafka, "kafka", cpu.kafka),
            part(Owner::Postgres, "postgres", cpu.postgres),
        ];
        let lanes = lanes(times, level.seconds);
        Self { level, parts, lanes }
    }
}

fn lanes(times: &Metrics, seconds: f64) -> Vec<Lane> {
    let of = |plugin: &str, lane: &str| Lane {
        name: format!("{plugin} ({lane})"),
        busy: times.sum("unit_seconds_total", &[("plugin", plugin), ("lane", lane)]) / seconds,
    };
    let both = SERVICES.iter().flat_map(|service| [of(service.plugin, "http"), of(service.plugin, "kafka")]);
    both.filter(|lane| lane.busy > 0.0).collect()
}

impl Part {
    fn sum_us(&self) -> f64 {
        self.stops.iter().map(|cost| cost.us).sum()
    }
}

impl Summary {
    /// What the profile finds is what `/proc` says, and the rest of the latency is as small: with one host,
    /// since half of the callers wait on the host that does not end their saga, and what hosts tell each
    /// other is in no stop.
    pub(super) fn judge(&self, report: &mut Report) {
        report.area("whether the stops are all");
        let (sum, measured) = self.busy.sums();
        report.note(
            format!("CPU: the stops are {:.2} of what is measured", sum / measured),
            within((sum - measured).abs() / measured),
        );
        if self.hosts > 1 {
            return;
        }
        let rest = self.lone.rest_ms / self.lone.mean_ms;
        report.note(format!("latency: {rest:.2} of it is in no stop"), within(rest.abs()));
    }

    pub(super) fn table(&self) -> String {
        format!("{}\n{}", output::table(&self.busy.rows()), output::table(&self.lone.rows()))
    }
}

fn within(share: f64) -> Result<()> {
    ensure!(share <= REST_MAX, "more than {REST_MAX}: the rules or the host's counters miss something");
    Ok(())
}

impl Busy {
    /// Of the stops, and measured: microseconds per saga.
    fn sums(&self) -> (f64, f64) {
        (self.parts.iter().map(Part::sum_us).sum(), self.parts.iter().map(|part| part.measured_us).sum())
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let Level { demand, sagas_per_s, latency, .. } = &self.level;
        let head = format!("CPU, {demand}, {sagas_per_s:.0} sagas/s, p50 {:.1} ms", latency.p50_ms);
        let (sum, measured) = self.sums();
        let row =
            |name: String, us: f64| vec![name, format!("{us:.1}"), format!("{:.1}", us / measured * 100.0)];
        let mut rows = vec![vec![head, "µs per saga".to_owned(), "% of all".to_owned()]];
        for part in &self.parts {
            rows.push(row(part.owner.to_owned(), part.sum_us()));
            rows.extend(part.stops.iter().map(|cost| row(format!("  {}", cost.stop), cost.us)));
        }
        rows.push(row("sum of the stops, by the profile".to_owned(), sum));
        rows.push(row("measured, by /proc".to_owned(), measured));
        for part in &self.parts {
            rows.push(row(format!("  {}", part.owner), part.measured_us));
        }
        rows.push(vec!["sum / measured".to_owned(), format!("{:.2}", sum / measured)]);
        rows.push(vec!["lanes: a unit is open".to_owned(), String::new(), "% of time".to_owned()]);
        let busy = |lane: &Lane| {
            vec![format!("  {}", lane.name), String::new(), format!("{:.0}", lane.busy * 100.0)]
        };
        rows.extend(self.lanes.iter().map(busy));
        rows
    }
}

impl Lone {
    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, ms: f64| {
            vec![name.to_owned(), format!("{ms:.2}"), format!("{:.1}", ms / self.mean_ms * 100.0)]
        };
        let mut rows =
            vec![vec!["latency, a lone client".to_owned(), "ms".to_owned(), "% of mean".to_owned()]];
        rows.extend(self.stops.iter().map(|stop| row(&stop.name, stop.ms)));
        rows.push(row("sum of the stops", self.mean_ms - self.rest_ms));
        rows.push(row("from Kafka to a lane, twice, and wake-ups: the rest", self.rest_ms));
        rows.push(row("measured by the client: mean", self.mean_ms));
        rows.push(row("  p50", self.p50_ms));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, Lane, Lone, Metrics, Part, lanes, within};

    #[test]
    fn a_part_is_the_sum_of_its_stops() {
        let cost = |us| Cost { stop: "x", us };
        let part = Part { owner: "host", stops: vec![cost(1.5), cost(2.0)], measured_us: 4.0 };
        assert!((part.sum_us() - 3.5).abs() < 1e-9);
    }

    #[test]
    fn a_budget_that_misses_something_is_none() {
        assert!(within(0.15).is_ok());
        assert!(within(0.16).is_err());
    }

    #[test]
    fn a_lane_is_busy_while_a_unit_is_open() {
        let times = Metrics::parse(
            "saga_host_unit_seconds_total{plugin=\"notification\",lane=\"kafka\",stage=\"open\"} 1\n\
             saga_host_unit_seconds_total{plugin=\"notification\",lane=\"kafka\",stage=\"flush\"} 2\n",
        );
        assert_eq!(lanes(&times, 12.0), [Lane { name: "notification (kafka)".to_owned(), busy: 0.25 }]);
    }

    #[test]
    fn the_rest_is_shown_as_what_it_is() {
        let rows = Lone { stops: vec![], rest_ms: 1.0, mean_ms: 4.0, p50_ms: 3.9 }.rows();
        assert_eq!(rows[1], ["sum of the stops", "3.00", "75.0"]);
        assert_eq!(rows[2][1], "1.00");
    }
}
