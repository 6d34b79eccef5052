//! The figures of a comparison, as tables and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metric::{METRICS, Metric};
use super::ratio::{Ratios, alike_one_in, median};
use crate::load::{Demand, Level};
use crate::machine::Machine;
use saga_testkit::output;

/// What one side runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Side {
    pub(super) binary: String,
    pub(super) plugins: String,
    pub(super) environment: Vec<(String, String)>,
    pub(super) hosts: u32,
}

/// The run of one side, on its own data.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) level: Level,
}

/// Two runs, one after the other.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    pub(super) a: Run,
    pub(super) b: Run,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) a: Side,
    pub(super) b: Side,
    pub(super) demand: Demand,
    /// B/A by figure.
    pub(super) ratios: BTreeMap<&'static str, Ratios>,
    pub(super) pairs: Vec<Pair>,
    /// How many invariants and counts were checked after the runs. All of them hold.
    pub(super) checks: usize,
}

impl Pair {
    fn values(&self, metric: &Metric) -> (Option<f64>, Option<f64>) {
        ((metric.of)(&self.a.level), (metric.of)(&self.b.level))
    }

    /// The table of one pair.
    pub(super) fn table(&self, number: usize) -> String {
        let mut rows = vec![row([&format!("pair {number}"), "A", "B", "B/A"])];
        rows.extend(METRICS.iter().map(|metric| {
            let (a, b) = self.values(metric);
            let ratio = Ratios::of([(a, b)]).map_or("-".to_owned(), |ratios| format!("{:.3}", ratios.median));
            row([metric.name, &metric.cell(a), &metric.cell(b), &ratio])
        }));
        output::table(&rows)
    }
}

impl Summary {
    pub(super) fn new(a: Side, b: Side, demand: Demand, pairs: Vec<Pair>, checks: usize) -> Self {
        let ratios = METRICS.iter().filter_map(|metric| {
            Some((metric.key, Ratios::of(pairs.iter().map(|pair| pair.values(metric)))?))
        });
        Self { a, b, demand, ratios: ratios.collect(), pairs, checks }
    }

    /// Medians of both sides, and the ratio's median and spread.
    pub(super) fn table(&self) -> String {
        let head = format!("{} pairs, {}", self.pairs.len(), self.demand);
        let mut rows = vec![row([&head, "A median", "B median", "B/A median", "min .. max", "in all pairs"])];
        for metric in &METRICS {
            let values = |side: fn(&Pair) -> &Run| {
                let mut values: Vec<f64> =
                    self.pairs.iter().filter_map(|pair| (metric.of)(&side(pair).level)).collect();
                values.sort_by(f64::total_cmp);
                metric.cell(median(&values))
            };
            let (a, b) = (values(|pair| &pair.a), values(|pair| &pair.b));
            let Some(ratios) = self.ratios.get(metric.key) else {
                rows.push(row([metric.name, &a, &b, "-"]));
                continue;
            };
            rows.push(row([
                metric.name,
                &a,
                &b,
                &format!("{:.3}", ratios.median),
                &format!("{:.3} .. {:.3}", ratios.min, ratios.max),
                &verdict(ratios, self.pairs.len()),
            ]));
        }
        format!("\n{}{}", output::table(&rows), self.caution())
    }

    /// A note on how far the table can be trusted.
    fn caution(&self) -> String {
        let chance = alike_one_in(self.pairs.len());
        let mut text = format!(
            "\n  Two equal sides differ \"in each\" by chance alone in 1 of {chance} figures after {} \
             pairs.\n",
            self.pairs.len()
        );
        let loud =
            self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]).filter(|run| !run.machine.quiet).count();
        if loud > 0 {
            text.push_str(&format!("  {loud} runs began on a machine that was NOT QUIET.\n"));
        }
        text
    }
}

/// `-` when a figure is unknown in some pair.
fn verdict(ratios: &Ratios, pairs: usize) -> String {
    if ratios.pairs.len() == pairs { ratios.verdict().to_string() } else { "-".to_owned() }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}
