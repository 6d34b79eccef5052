//! The figures of a growth run, as a table, as JSON and as a chart.

use serde::Serialize;

use crate::chart::{self, Panel, Series};
use crate::load::Level;
use crate::machine::Machine;
use saga_testkit::output;

const MIB: f64 = 1024.0 * 1024.0;

type Figure = fn(&Level) -> f64;

/// One level, and the contents of the databases.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    /// Finished sagas before the warm-up.
    pub(super) sagas_before: i64,
    /// Finished sagas after the level. The difference is the level's own sagas.
    pub(super) sagas_after: i64,
    /// Size of the five databases before the level.
    pub(super) database_bytes: i64,
    pub(super) machine: Machine,
    pub(super) level: Level,
}

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) points: Vec<Point>,
    /// The first level once more, on another empty system, after all others.
    pub(super) again: Point,
    /// How many invariants and counts were checked. All of them hold.
    pub(super) checks: usize,
}

impl Point {
    /// The position on the x axis: half of the level's own sagas had ended.
    fn sagas(&self) -> f64 {
        (self.sagas_before as f64 + self.sagas_after as f64) / 2.0
    }
}

impl Summary {
    fn all(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().chain([&self.again])
    }

    pub(super) fn table(&self) -> String {
        let row = |name: &str, cell: &dyn Fn(&Point) -> String| {
            let mut row = vec![name.to_owned()];
            row.extend(self.all().map(cell));
            row
        };
        let cpu = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let mut head = vec!["step".to_owned()];
        head.extend(
            (0..self.points.len()).map(|step| if step == 0 { "empty".to_owned() } else { step.to_string() }),
        );
        head.push("empty again".to_owned());
        let rows = [
            head,
            row("finished sagas before", &|p| p.sagas_before.to_string()),
            row("  after", &|p| p.sagas_after.to_string()),
            row("databases before, MiB", &|p| format!("{:.0}", p.database_bytes as f64 / MIB)),
            row("sagas/s", &|p| format!("{:.0}", p.level.sagas_per_s)),
            row("p50 ms", &|p| format!("{:.2}", p.level.latency.p50_ms)),
            row("p99 ms", &|p| format!("{:.2}", p.level.latency.p99_ms)),
            row("CPU s per 1,000 sagas: host", &|p| cpu(p.level.cpu_per_1000.host)),
            row("  kafka", &|p| cpu(p.level.cpu_per_1000.kafka)),
            row("  postgres", &|p| cpu(p.level.cpu_per_1000.postgres)),
            row("  other processes", &|p| cpu(p.level.cpu_per_1000.other)),
            row("WAL bytes per saga", &|p| format!("{:.0}", p.level.per_saga.wal_bytes)),
        ];
        format!("\n{}", output::table(&rows))
    }

    pub(super) fn svg(&self) -> String {
        let filling = |name, of: Figure| series(name, &self.points, of);
        let rate: Figure = |level| level.sagas_per_s;
        let again = series("empty again", std::slice::from_ref(&self.again), rate);
        chart::svg(&[
            panel("Sagas per second", vec![filling("filling", rate), again]),
            panel(
                "Latency of a saga, ms",
                vec![
                    filling("p50", |level| level.latency.p50_ms),
                    filling("p99", |level| level.latency.p99_ms),
                ],
            ),
            panel(
                "CPU seconds per 1,000 sagas",
                vec![
                    filling("host", |level| level.cpu_per_1000.host.unwrap_or_default()),
                    filling("postgres", |level| level.cpu_per_1000.postgres.unwrap_or_default()),
                    filling("kafka", |level| level.cpu_per_1000.kafka.unwrap_or_default()),
                ],
            ),
        ])
    }
}

fn panel(title: &str, series: Vec<Series>) -> Panel {
    Panel { title: title.to_owned(), x_label: "finished sagas in the databases".to_owned(), series }
}

fn series(name: &str, points: &[Point], of: Figure) -> Series {
    let points = points.iter().map(|point| (point.sagas(), of(&point.level))).collect();
    Series { name: name.to_owned(), points }
}
