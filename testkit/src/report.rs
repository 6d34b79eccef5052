//! The outcomes of named checks. A failed check does not stop the next one.

use std::future::Future;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::output;

/// One check that was made.
#[derive(Debug, Clone)]
pub struct Check {
    /// The group it belongs to.
    pub area: String,
    /// What was expected, as a sentence.
    pub name: String,
    /// Why it failed.
    pub failure: Option<String>,
}

/// All checks of a run, printed as they are made.
#[derive(Debug, Default)]
pub struct Report {
    area: String,
    checks: Vec<Check>,
    silent: bool,
}

impl Report {
    /// A report that prints nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Prints a line, unless silent.
    pub fn say(&self, text: &str) {
        if !self.silent {
            output::line(text);
        }
    }

    /// Puts the following checks into this group.
    pub fn area(&mut self, name: &str) {
        name.clone_into(&mut self.area);
        self.say(&format!("\n{name}"));
    }

    /// Adds the outcome of a check.
    pub fn note(&mut self, name: impl Into<String>, outcome: anyhow::Result<()>) {
        let check = Check {
            area: self.area.clone(),
            name: name.into(),
            failure: outcome.err().map(|error| format!("{error:#}")),
        };
        match &check.failure {
            None => self.say(&format!("  ok      {}", check.name)),
            Some(reason) => self.say(&format!("  FAILED  {}\n          {reason}", check.name)),
        }
        self.checks.push(check);
    }

    /// Runs a check and adds its outcome.
    pub async fn run(&mut self, name: impl Into<String>, check: impl Future<Output = anyhow::Result<()>>) {
        let outcome = check.await;
        self.note(name, outcome);
    }

    /// The number of checks that ran.
    #[must_use]
    pub fn made(&self) -> usize {
        self.checks.len()
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.failure.is_some())
    }

    /// Prints the totals and the failures once more.
    ///
    /// # Errors
    /// Any check failed.
    pub fn finish(&self) -> anyhow::Result<()> {
        let failed = self.failed().count();
        self.say(&format!("\n{} checks, {failed} failed", self.made()));
        for check in self.failed() {
            self.say(&format!("  FAILED  {}: {}", check.area, check.name));
        }
        let names: Vec<&str> = self.failed().map(|check| check.name.as_str()).collect();
        anyhow::ensure!(failed == 0, "{failed} of {} checks failed: {}", self.made(), names.join("; "));
        Ok(())
    }

    /// Publishes the figures of a run, as text and as a JSON file, if every check of the run holds.
    ///
    /// # Errors
    /// No check ran or one failed: then nothing is printed and no file written. Or the file cannot be
    /// written.
    pub fn release(&self, text: &str, figures: &impl Serialize, json: Option<&Path>) -> anyhow::Result<()> {
        anyhow::ensure!(self.made() > 0, "no figures: nothing was checked");
        self.finish().context("no figures: the run broke what the host promises")?;
        output::line(text);
        if let Some(file) = json {
            std::fs::write(file, serde_json::to_vec_pretty(figures)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

/// Whether a figure is within its limit.
///
/// # Errors
/// The figure is above it; the message is the figure.
pub fn at_most(value: f64, most: f64) -> anyhow::Result<()> {
    anyhow::ensure!(value <= most, "{value:.2}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Report, at_most};

    #[test]
    fn one_failure_fails_the_run_but_not_the_next_check() {
        let mut report = Report::default();
        report.area("numbers");
        report.note("one is one", Ok(()));
        assert!(report.finish().is_ok());
        report.note("one is two", Err(anyhow::anyhow!("it is one")));
        report.note("two is two", Ok(()));
        assert_eq!((report.made(), report.failed().count()), (3, 1));
        assert!(report.finish().unwrap_err().to_string().ends_with("one is two"));
    }

    #[test]
    fn figures_are_refused_unless_all_was_checked_and_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("figures.json");
        let mut report = Report::silent();
        let release = |report: &Report| report.release("", &[1, 2], Some(&file));
        assert!(release(&report).unwrap_err().to_string().contains("nothing was checked"));
        report.note("no order is lost", Ok(()));
        report.note("no stock is oversold", Err(anyhow::anyhow!("-1 left")));
        let refusal = format!("{:#}", release(&report).unwrap_err());
        assert!(refusal.contains("no figures") && refusal.contains("no stock is oversold"), "{refusal}");
        assert!(!file.exists());
        let mut whole = Report::silent();
        whole.note("no order is lost", Ok(()));
        release(&whole).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn a_figure_beyond_its_limit_fails() {
        assert!(at_most(1.25, 1.25).is_ok());
        assert!(at_most(1.26, 1.25).is_err());
    }
}
