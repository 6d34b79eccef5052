//! What the two versions of a plugin that is swapped have handled.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::swapped::NUMBERS;
use saga_testkit::caller::Request;
use saga_testkit::target::Target;

/// Deliveries by the number of the version, of those that ran when it was counted.
pub(super) struct Handled {
    plugin: &'static str,
    deliveries: BTreeMap<String, f64>,
}

impl Handled {
    pub(super) fn of(plugin: &'static str) -> Self {
        Self { plugin, deliveries: BTreeMap::new() }
    }

    /// Notes what the version that is active, and the one that drains, have handled since each was activated
    /// last. Not at every swap: the host counts sagas for an answer.
    pub(super) async fn count(&mut self, target: &Target) -> Result<()> {
        let metrics = Request::get("/metrics").send(target.admin()?).await?.expect(200)?.text();
        for number in NUMBERS {
            let labels =
                format!("saga_host_deliveries_total{{plugin=\"{}\",version=\"{number}\"", self.plugin);
            let lines = metrics.lines().filter(|line| line.starts_with(&labels));
            let handled: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
            *self.deliveries.entry(number.to_owned()).or_default() += handled;
        }
        Ok(())
    }

    /// Each of the two has handled something.
    pub(super) fn both_handled(&self) -> (String, Result<()>) {
        let told: Vec<String> =
            self.deliveries.iter().map(|(number, count)| format!("{count:.0} by {number}")).collect();
        let name = format!(
            "both versions of {} handled deliveries, counted after each turn: {}",
            self.plugin,
            told.join(", ")
        );
        let both =
            NUMBERS.iter().all(|number| self.deliveries.get(*number).is_some_and(|count| *count > 0.0));
        (name, if both { Ok(()) } else { Err(anyhow::anyhow!("one of them none")) })
    }
}
