//! Two versions of a plugin: the one that was built, and the same under another version number, which the host shows beside what
//! each has handled.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::caller::Request;
use crate::target::Target;

/// As Cargo.toml has it, and what the other version is called instead.
const NUMBERS: [&str; 2] = [env!("CARGO_PKG_VERSION"), "9.9.9"];

/// A plugin that is swapped.
pub(super) struct Swapped {
    plugin: &'static str,
    /// The next one to activate first.
    versions: [Vec<u8>; 2],
    /// Deliveries by the number of the version, of those that ran when it was counted.
    handled: BTreeMap<String, f64>,
}

impl Swapped {
    pub(super) fn read(plugins: &Path, plugin: &'static str) -> Result<Self> {
        let [built, other] = both(plugins, plugin)?;
        Ok(Self { plugin, versions: [other, built], handled: BTreeMap::new() })
    }

    /// Activates the version that is not active.
    pub(super) async fn swap(&mut self, target: &Target) -> Result<()> {
        let put = Request::put(format!("/v1/plugins/{}", self.plugin), self.versions[0].clone());
        put.send(target.admin()?).await?.expect(200)?;
        self.versions.swap(0, 1);
        Ok(())
    }

    /// Notes what the version that is active, and the one that drains, have handled since each was activated last. Not at every
    /// swap: the host counts sagas for an answer.
    pub(super) async fn count(&mut self, target: &Target) -> Result<()> {
        let metrics = Request::get("/metrics").send(target.admin()?).await?.expect(200)?.text();
        for number in NUMBERS {
            let labels = format!("saga_host_deliveries_total{{plugin=\"{}\",version=\"{number}\"", self.plugin);
            let lines = metrics.lines().filter(|line| line.starts_with(&labels));
            let handled: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
            *self.handled.entry(number.to_owned()).or_default() += handled;
        }
        Ok(())
    }

    /// Each of the two has handled something.
    pub(super) fn both_handled(&self) -> (String, Result<()>) {
        let told: Vec<String> = self.handled.iter().map(|(number, count)| format!("{count:.0} by {number}")).collect();
        let name = format!(
            "both versions of {} handled deliveries, counted after each turn: {}",
            self.plugin,
            told.join(", ")
        );
        let both = NUMBERS.iter().all(|number| self.handled.get(*number).is_some_and(|count| *count > 0.0));
        (name, if both { Ok(()) } else { Err(anyhow::anyhow!("one of them none")) })
    }
}

/// The component that was built, and the other version.
pub(crate) fn both(plugins: &Path, plugin: &str) -> Result<[Vec<u8>; 2]> {
    let path = plugins.join(format!("{plugin}.wasm"));
    let built = std::fs::read(&path)
        .with_context(|| format!("{}; build the plugins, or name their folder by --plugins", path.display()))?;
    let other = renumbered(&built, plugin)
        .with_context(|| format!("{} does not call itself {plugin} {}", path.display(), NUMBERS[0]))?;
    Ok([built, other])
}

/// The component with another number behind its name, of the same length.
fn renumbered(component: &[u8], plugin: &str) -> Result<Vec<u8>> {
    let from = format!("{plugin}{}", NUMBERS[0]);
    let place = component.windows(from.len()).position(|part| part == from.as_bytes());
    let number = place.context("no such text")? + plugin.len();
    ensure!(NUMBERS[0].len() == NUMBERS[1].len(), "a number of another length");
    let mut other = component.to_vec();
    other.splice(number..number + NUMBERS[0].len(), NUMBERS[1].bytes());
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS, renumbered};

    #[test]
    fn only_the_number_behind_the_name_changes() {
        let built = format!("kafka@{0} plugin{0} {0}", NUMBERS[0]);
        let other = renumbered(built.as_bytes(), "plugin").unwrap();
        assert_eq!(other, format!("kafka@{0} plugin{1} {0}", NUMBERS[0], NUMBERS[1]).into_bytes());
        assert!(renumbered(b"plugin", "plugin").is_err());
    }
}
