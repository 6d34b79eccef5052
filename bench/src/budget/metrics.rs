//! What the `/metrics` of all hosts say was added between two moments.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::caller::Request;
use crate::target::Target;

/// Samples, each as `name{labels}` and its value, of several hosts added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Metrics(BTreeMap<String, f64>);

/// What is added in the seconds after `begin`.
///
/// # Errors
/// A host does not answer.
pub(super) async fn over(target: &Target, begin: Duration, measure: Duration) -> Result<Metrics> {
    tokio::time::sleep(begin).await;
    let before = now(target).await?;
    tokio::time::sleep(measure).await;
    Ok(now(target).await?.since(&before))
}

async fn now(target: &Target) -> Result<Metrics> {
    let mut texts = Vec::new();
    for admin in target.admins()? {
        texts.push(Request::get("/metrics").send(admin).await?.expect(200)?.text());
    }
    Ok(Metrics::parse(&texts.join("\n")))
}

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.lines() {
            if let Some((series, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                *samples.entry(series.to_owned()).or_default() += value;
            }
        }
        Self(samples)
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |series: &str| earlier.0.get(series).copied().unwrap_or_default();
        Self(self.0.iter().map(|(series, value)| (series.clone(), value - before(series))).collect())
    }

    /// All samples of this name with these labels, added up.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let fits = |series: &str| {
            let of = series.strip_prefix("saga_host_").and_then(|rest| rest.split_once('{'));
            of.is_some_and(|(found, rest)| {
                found == name && wanted.iter().all(|label| rest.contains(label.as_str()))
            })
        };
        self.0.iter().filter(|(series, _)| fits(series)).map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn a_sum_is_of_what_was_added_under_these_labels() {
        let before = Metrics::parse("# HELP x y\nsaga_host_a{plugin=\"p\",stage=\"open\"} 1\n");
        let after = Metrics::parse(
            "saga_host_a{plugin=\"p\",stage=\"open\"} 1.5\nsaga_host_a{plugin=\"p\",stage=\"flush\"} 2\n\
             saga_host_ab{plugin=\"p\"} 9\nsaga_host_a{plugin=\"q\",stage=\"open\"} 4\n",
        );
        let added = after.since(&before);
        assert_eq!(added.sum("a", &[("plugin", "p")]), 2.5);
        assert_eq!(added.sum("a", &[("plugin", "p"), ("stage", "open")]), 0.5);
    }

    #[test]
    fn what_several_hosts_say_is_added_up() {
        let both = Metrics::parse("saga_host_a{plugin=\"p\"} 1\nsaga_host_a{plugin=\"p\"} 2\n");
        assert_eq!(both.sum("a", &[("plugin", "p")]), 3.0);
    }
}
