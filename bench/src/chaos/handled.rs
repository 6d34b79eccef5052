//! How many deliveries each of the two versions of a plugin has handled, from the hosts' metrics.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::system::System;
use super::versions::TwoVersions;
use saga_testkit::caller::Request;

/// Deliveries by version number, for versions that were running when they were counted.
pub(super) struct Handled {
    plugin: String,
    deliveries: BTreeMap<String, f64>,
}

impl Handled {
    pub(super) fn of(plugin: &TwoVersions) -> Self {
        Self::new(plugin.name(), plugin.numbers())
    }

    fn new(plugin: &str, numbers: [String; 2]) -> Self {
        Self { plugin: plugin.to_owned(), deliveries: numbers.map(|number| (number, 0.0)).into() }
    }

    /// Adds what the active and the draining versions have handled since the last activation of each.
    pub(super) async fn count(&mut self, system: &System) -> Result<()> {
        for host in 0..system.hosts() {
            let metrics = Request::get("/metrics").send(system.target(host).admin()?).await?;
            self.add(&metrics.expect(200)?.text());
        }
        Ok(())
    }

    fn add(&mut self, metrics: &str) {
        for (number, deliveries) in &mut self.deliveries {
            let labels =
                format!("saga_host_deliveries_total{{plugin=\"{}\",version=\"{number}\"", self.plugin);
            let lines = metrics.lines().filter(|line| line.starts_with(&labels));
            *deliveries += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
    }

    /// The check that each version has handled something.
    pub(super) fn check(&self) -> (String, Result<()>) {
        let counts: Vec<String> =
            self.deliveries.iter().map(|(number, count)| format!("{count:.0} by {number}")).collect();
        let name = format!("both versions of {} handled deliveries: {}", self.plugin, counts.join(", "));
        (name, self.both())
    }

    fn both(&self) -> Result<()> {
        ensure!(self.deliveries.values().all(|count| *count > 0.0), "one of them handled none");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Handled;

    #[test]
    fn each_version_must_have_handled_something() {
        let line = |plugin: &str, number: &str| {
            format!("saga_host_deliveries_total{{plugin=\"{plugin}\",version=\"{number}\",digest=\"d\"}} 3\n")
        };
        let mut handled = Handled::new("p", ["1.0.0".to_owned(), "2.0.0".to_owned()]);
        handled.add(&(line("p", "1.0.0") + &line("other", "2.0.0")));
        assert!(handled.both().is_err());
        handled.add(&line("p", "2.0.0"));
        assert!(handled.both().is_ok());
    }
}
