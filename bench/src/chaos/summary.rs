//! The report of a run: which faults were injected when, the counts, and how to repeat the run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Fault;
use super::calm::Calm;
use super::count::Counts;
use saga_testkit::output;
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
    /// The longest time without an accepted order meanwhile.
    pub(super) pause_ms: u64,
}

/// All results of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) seed: u64,
    pub(super) hosts: u8,
    pub(super) seconds: u64,
    pub(super) orders: u64,
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
    pub(super) fn new(fault: Fault, done: String, at: Duration, healed: Duration, pause: Duration) -> Self {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self { at_s: at.as_secs_f64(), fault, done, healed_s: healed.as_secs_f64(), pause_ms }
    }

    /// The line that is printed when the fault has healed.
    pub(super) fn line(&self) -> String {
        let Self { at_s, fault, done, healed_s, pause_ms } = self;
        format!("{at_s:6.1} s  {fault:<9}  healed {healed_s:4.1} s, pause {pause_ms:5} ms  {done}")
    }
}

impl Summary {
    /// Prints the report, writes it to a file, and fails when a check has.
    pub(super) fn release(&self, report: &Report, json: Option<&Path>) -> Result<()> {
        let finished = report.finish();
        output::line(&format!("\n{}", self.text()));
        if let Some(path) = json {
            let failures = report.failed().map(|check| {
                format!("{}: {}: {}", check.area, check.name, check.failure.as_deref().unwrap_or_default())
            });
            let file = File { summary: self, checks: report.made(), failures: failures.collect() };
            std::fs::write(path, serde_json::to_vec_pretty(&file)?)
                .with_context(|| path.display().to_string())?;
        }
        finished.with_context(|| format!("seed {}", self.seed))
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.faults.iter().map(Injected::line).collect();
        lines.push(match &self.counts {
            Some(counts) => format!(
                "{} faults ({} skipped) on {} hosts, {} orders accepted ({} attempts failed on the way): \
                 {} lost, {} doubled, {} reordered, {} stuck",
                self.faults.len(),
                self.skipped,
                self.hosts,
                counts.accepted,
                self.failed_attempts,
                counts.lost,
                counts.doubled,
                counts.reordered,
                counts.stuck
            ),
            None => format!("ended early, after {} faults", self.faults.len()),
        });
        lines.push(format!("to repeat the run: {}", self.command));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, Fault, Injected, Summary};
    use saga_testkit::report::Report;

    fn summary() -> Summary {
        let (at, healed, pause) =
            (Duration::from_millis(12_340), Duration::from_secs(2), Duration::from_millis(450));
        Summary {
            seed: 7,
            hosts: 2,
            seconds: 60,
            orders: 100,
            command: "saga-bench chaos --seed 7".to_owned(),
            calm: None,
            faults: vec![Injected::new(Fault::Kill, "host 1: SIGKILL".to_owned(), at, healed, pause)],
            skipped: 1,
            failed_attempts: 3,
            counts: Some(Counts { accepted: 100, ..Counts::default() }),
        }
    }

    #[test]
    fn a_report_lists_faults_counts_and_the_command() {
        assert_eq!(
            summary().text(),
            "  12.3 s  kill       healed  2.0 s, pause   450 ms  host 1: SIGKILL\n\
             1 faults (1 skipped) on 2 hosts, 100 orders accepted (3 attempts failed on the way): \
             0 lost, 0 doubled, 0 reordered, 0 stuck\n\
             to repeat the run: saga-bench chaos --seed 7"
        );
    }

    #[test]
    fn a_broken_run_is_written_too_and_names_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chaos.json");
        let mut report = Report::silent();
        report.note("no order is lost", Err(anyhow::anyhow!("1 is")));
        let error = format!("{:#}", summary().release(&report, Some(&file)).unwrap_err());
        assert!(error.contains("seed 7") && error.contains("no order is lost"), "{error}");
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(json["failures"][0], ": no order is lost: 1 is");
        assert_eq!((&json["faults"][0]["fault"], &json["counts"]["lost"]), (&"kill".into(), &0.into()));
    }
}
