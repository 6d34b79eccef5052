//! The report of a run: which faults were injected when, their effects, the counts, and how to repeat the run.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Fault;
use super::calm::Calm;
use super::check::Counts;
use super::recovery::Effect;
use saga_testkit::report::Report;

/// A fault that was injected.
#[derive(Debug, Serialize)]
pub(super) struct Injected {
    /// From the start of the load.
    pub(super) at_s: f64,
    pub(super) fault: Fault,
    pub(super) done: String,
    /// Until every host was ready again.
    pub(super) healed_s: f64,
    #[serde(flatten)]
    pub(super) effect: Effect,
}

/// All results of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) hosts: u8,
    pub(super) seconds: u64,
    pub(super) requests: u64,
    /// The command line that repeats the run.
    pub(super) command: String,
    pub(super) calm: Option<Calm>,
    pub(super) faults: Vec<Injected>,
    /// Faults of the schedule that were too late, or came after one that did not heal.
    pub(super) skipped: usize,
    /// Requests without an answer, and answers of 500 and above.
    pub(super) failed_attempts: usize,
    /// None when the run ended early.
    pub(super) counts: Option<Counts>,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    checks: usize,
    /// Checks that failed, and why.
    failures: Vec<String>,
}

impl Injected {
    fn line(&self) -> String {
        let Self { at_s, fault, done, healed_s, effect } = self;
        let (recovered_s, pause_ms) = (effect.recovered_ms as f64 / 1000.0, effect.pause_ms);
        let latencies = format!(
            "{:.0}/{:.0} -> {:.0}/{:.0}",
            effect.before.p50_ms, effect.before.p99_ms, effect.during.p50_ms, effect.during.p99_ms
        );
        format!(
            "{at_s:6.1} s  {fault:<16}  {healed_s:5.1} s  {recovered_s:5.1} s  {pause_ms:6} ms  {latencies:<22}  \
             {done}"
        )
    }
}

const HEAD: &str =
    "     at   fault              ready   recovered    pause  p50/p99 ms             what was done";

impl Summary {
    /// Writes all results to a file, with the checks that failed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, report: &Report, path: &Path) -> Result<()> {
        let failures = report.failed().map(|check| {
            format!("{}: {}: {}", check.area, check.name, check.failure.as_deref().unwrap_or_default())
        });
        let file = File { summary: self, checks: report.made(), failures: failures.collect() };
        std::fs::write(path, serde_json::to_vec_pretty(&file)?).with_context(|| path.display().to_string())
    }

    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = self.faults.iter().map(Injected::line).collect();
        if !lines.is_empty() {
            lines.insert(0, HEAD.to_owned());
        }
        lines.push(match &self.counts {
            Some(counts) => {
                let zero: Vec<String> = counts.zero.iter().map(|(of, count)| format!("{count} {of}")).collect();
                format!(
                    "{} faults ({} skipped) on {} hosts, {} requests accepted ({} attempts failed on the way): \
                     {}, {} reordered",
                    self.faults.len(),
                    self.skipped,
                    self.hosts,
                    counts.accepted,
                    self.failed_attempts,
                    zero.join(", "),
                    counts.reordered
                )
            }
            None => format!("ended early, after {} faults", self.faults.len()),
        });
        lines.push(format!("to repeat the run: {}", self.command));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Effect, Fault, Injected, Summary};
    use crate::latency::Summary as Latency;
    use saga_testkit::report::Report;

    fn summary() -> Summary {
        let latency = |p50_ms, p99_ms| Latency { count: 9, p50_ms, p99_ms, max_ms: 99.0 };
        let effect = Effect {
            pause_ms: 450,
            recovered_ms: 6_400,
            before: latency(12.0, 40.0),
            during: latency(15.0, 3_000.0),
        };
        let done = "host 1: SIGKILL".to_owned();
        Summary {
            seed: 7,
            hosts: 2,
            seconds: 60,
            requests: 100,
            command: "saga-bench chaos --seed 7".to_owned(),
            calm: None,
            faults: vec![Injected { at_s: 12.34, fault: Fault::Kill, done, healed_s: 2.0, effect }],
            skipped: 1,
            failed_attempts: 3,
            counts: Some(Counts {
                accepted: 100,
                zero: vec![("lost".to_owned(), 0), ("doubled".to_owned(), 0)],
                ..Counts::default()
            }),
        }
    }

    #[test]
    fn a_report_lists_faults_counts_and_the_command() {
        assert_eq!(
            summary().text(),
            "     at   fault              ready   recovered    pause  p50/p99 ms             what was done\n\
             \x20 12.3 s  kill                2.0 s    6.4 s     450 ms  12/40 -> 15/3000        host 1: \
             SIGKILL\n\
             1 faults (1 skipped) on 2 hosts, 100 requests accepted (3 attempts failed on the way): \
             0 lost, 0 doubled, 0 reordered\n\
             to repeat the run: saga-bench chaos --seed 7"
        );
    }

    #[test]
    fn a_broken_run_is_written_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chaos.json");
        let mut report = Report::silent();
        report.note("no order is lost", Err(anyhow::anyhow!("1 is")));
        summary().write(&report, &file).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(json["failures"][0], ": no order is lost: 1 is");
        assert_eq!(
            (&json["faults"][0]["fault"], &json["faults"][0]["recovered_ms"]),
            (&"kill".into(), &6400.into())
        );
    }
}
