//! Limits of measured costs. The file has a figure for each, and the share by which it may grow. A cost above
//! its limit fails. A cost far below it is reported, because the stored figure would let too much growth
//! pass.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The stored costs of one section of the file.
#[derive(Debug)]
pub struct Costs {
    section: String,
    stored: BTreeMap<String, Stored>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    cost: f64,
    /// As a share of `cost`.
    may_grow: f64,
}

impl Costs {
    /// Reads one section.
    ///
    /// # Errors
    /// The file cannot be read, or has no such section.
    pub fn read(file: &Path, section: &str) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text, section).with_context(|| file.display().to_string())
    }

    fn parse(text: &str, section: &str) -> Result<Self> {
        let mut sections: BTreeMap<String, BTreeMap<String, Stored>> = toml::from_str(text)?;
        let stored = sections.remove(section).with_context(|| format!("no section [{section}]"))?;
        Ok(Self { section: section.to_owned(), stored })
    }

    /// Compares measured costs with the stored ones, by name. Returns both side by side, to read and to
    /// store.
    ///
    /// # Errors
    /// A cost is above its limit, is not stored, or is stored and was not measured. The message has the same
    /// text.
    pub fn judge(&self, measured: &[(String, f64)]) -> Result<String> {
        let mut table = format!("[{}]\n", self.section);
        let mut good = true;
        for (name, now) in measured {
            let (verdict, holds) = self.verdict(name, *now);
            good &= holds;
            let _infallible = writeln!(table, "{name} = {now:.3}  {verdict}");
        }
        for name in self.stored.keys().filter(|name| !measured.iter().any(|(known, _)| known == *name)) {
            good = false;
            let _infallible = writeln!(table, "{name} is stored and was NOT MEASURED");
        }
        if good { Ok(table) } else { bail!("costs have grown, or the file is not of these:\n{table}") }
    }

    fn verdict(&self, name: &str, now: f64) -> (String, bool) {
        let Some(Stored { cost, may_grow }) = self.stored.get(name).copied() else {
            return ("is NOT STORED".to_owned(), false);
        };
        let most = cost * (1.0 + may_grow);
        let limit = format!("stored {cost}, at most {most:.3}");
        if now < cost * (1.0 - may_grow) {
            return (format!("{limit}: fell, store it"), true);
        }
        // A figure that is not a number is above every limit.
        match now <= most {
            true => (limit, true),
            false => (format!("{limit}: GREW BY MORE"), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Costs;

    const FILE: &str = "[a]\nrows = { cost = 10, may_grow = 0.1 }\n[b]\nrows = { cost = 1, may_grow = 0 }\n";

    fn judge(measured: &[(&str, f64)]) -> Result<String, String> {
        let measured: Vec<_> = measured.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect();
        Costs::parse(FILE, "a").unwrap().judge(&measured).map_err(|error| error.to_string())
    }

    #[test]
    fn what_grows_by_more_than_it_may_fails() {
        assert!(judge(&[("rows", 11.0)]).unwrap().contains("stored 10, at most 11.000\n"));
        assert!(judge(&[("rows", 11.01)]).unwrap_err().contains("GREW BY MORE"));
        assert!(judge(&[("rows", f64::NAN)]).unwrap_err().contains("GREW BY MORE"));
        assert!(judge(&[("rows", 8.9)]).unwrap().contains("fell, store it"));
    }

    #[test]
    fn what_is_measured_is_what_is_stored() {
        assert!(judge(&[]).unwrap_err().contains("NOT MEASURED"));
        assert!(judge(&[("rows", 1.0), ("columns", 1.0)]).unwrap_err().contains("NOT STORED"));
        assert!(Costs::parse(FILE, "c").is_err());
        assert!(Costs::parse("[a]\nrows = { cost = 1 }", "a").is_err());
    }
}
