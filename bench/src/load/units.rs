//! How many deliveries share a unit, from the counters in the host's `/metrics`.

use std::collections::BTreeMap;

use serde::Serialize;

use saga_testkit::caller::Request;
use saga_testkit::target::Target;

/// Units and deliveries of each plugin since its active version began; empty when the host has no such
/// counters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Units(BTreeMap<String, (f64, f64)>);

/// The units of one plugin in the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Batches {
    /// Committed units.
    pub units: f64,
    /// Deliveries and requests in them.
    pub deliveries: f64,
    /// Mean deliveries per unit.
    pub per_unit: f64,
}

impl Units {
    /// Reads the counters of all hosts.
    pub(super) async fn now(target: &Target) -> Self {
        let mut units = Self::default();
        for admin in target.admins().unwrap_or_default() {
            let reply = Request::get("/metrics").send(admin).await;
            units.read(&reply.map(|reply| reply.text()).unwrap_or_default());
        }
        units
    }

    /// Adds up the samples of each plugin, whatever their other labels.
    fn read(&mut self, text: &str) {
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Some((name, labels)) = series.split_once('{') else { continue };
            let Some(plugin) = label(labels, "plugin") else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            match name {
                "saga_host_units_total" => self.0.entry(plugin).or_default().0 += value,
                "saga_host_deliveries_total" => self.0.entry(plugin).or_default().1 += value,
                _ => {}
            }
        }
    }

    /// What was added since `earlier`, without plugins that had no units.
    pub(super) fn since(&self, earlier: &Self) -> BTreeMap<String, Batches> {
        let added = self.0.iter().map(|(plugin, (units, deliveries))| {
            let (units_before, deliveries_before) = earlier.0.get(plugin).copied().unwrap_or_default();
            let (units, deliveries) = (units - units_before, deliveries - deliveries_before);
            (plugin.clone(), Batches { units, deliveries, per_unit: deliveries / units })
        });
        added.filter(|(_, batches)| batches.units > 0.0).collect()
    }
}

fn label(labels: &str, name: &str) -> Option<String> {
    let value = labels
        .split(',')
        .find_map(|label| label.trim_end_matches('}').strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Batches, Units};

    const BEFORE: &str = "# HELP saga_host_units_total Units\n\
        saga_host_units_total{plugin=\"a\",version=\"1\",digest=\"x\"} 10\n\
        saga_host_deliveries_total{plugin=\"a\",version=\"1\",digest=\"x\"} 100\n\
        saga_host_units_total{plugin=\"idle\",version=\"1\"} 7\n";
    const AFTER: &str = "saga_host_units_total{plugin=\"a\",lane=\"kafka\"} 14\n\
        saga_host_units_total{plugin=\"a\",lane=\"http\"} 1\n\
        saga_host_deliveries_total{plugin=\"a\"} 180\n\
        saga_host_units_total{plugin=\"idle\",version=\"1\"} 7\n\
        saga_host_outbox_units{database=\"a\"} 3\n";

    #[test]
    fn a_mean_covers_only_what_was_added() {
        let read = |text| {
            let mut units = Units::default();
            units.read(text);
            units
        };
        let added = read(AFTER).since(&read(BEFORE));
        assert_eq!(
            added,
            [("a".to_owned(), Batches { units: 5.0, deliveries: 80.0, per_unit: 16.0 })].into()
        );
    }
}
