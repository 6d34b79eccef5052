//! `saga-host plugins`

use serde_json::Value;

use super::{
    client::Client,
    table::{Table, age, count, digest, text},
};

/// Above it, the plugin runs statements per delivery instead of per batch.
const STATEMENTS_PER_DELIVERY_WARN: f64 = 0.1;
/// With fewer deliveries, the ratio means nothing.
const DELIVERIES_TO_JUDGE: f64 = 1_000.0;

#[derive(Debug, clap::Args)]
pub(super) struct Plugins {
    #[command(flatten)]
    client: Client,
}

impl Plugins {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let answer = self.client.get("/v1/plugins", &[])?;
        self.client.show(&answer, show);
        Ok(())
    }
}

fn show(answer: &Value) -> String {
    let mut table = Table::new(&[
        "NAME",
        "VERSION",
        "DIGEST",
        "STATE",
        "SINCE",
        "UNITS",
        "DELIVERIES",
        "STATEMENTS",
        "ERRORS",
        "IN FLIGHT",
    ]);
    let mut notes = Vec::new();
    for plugin in answer["plugins"].as_array().into_iter().flatten() {
        let name = text(&plugin["name"]);
        for (place, version) in plugin["versions"].as_array().into_iter().flatten().enumerate() {
            table.row([
                if place == 0 { name.clone() } else { String::new() },
                text(&version["version"]),
                digest(&version["digest"]),
                text(&version["state"]),
                age(&version["since"]),
                count(&version["units"]),
                count(&version["deliveries"]),
                count(&version["statements"]),
                count(&version["errors"]),
                count(&version["sagasInFlight"]),
            ]);
            notes.extend(note(&name, version));
        }
    }
    notes.insert(0, table.text());
    notes.join("\n")
}

fn note(name: &str, version: &Value) -> Option<String> {
    if let Some(reason) = version["reason"].as_str() {
        let digest = digest(&version["digest"]);
        return Some(match version["state"].as_str() {
            Some("waiting") => format!("{name} {digest} {reason}"),
            _ => format!("{name} {digest} was rejected: {reason}"),
        });
    }
    let (statements, deliveries) = (version["statements"].as_f64()?, version["deliveries"].as_f64()?);
    let each = statements / deliveries;
    (deliveries >= DELIVERIES_TO_JUDGE && each > STATEMENTS_PER_DELIVERY_WARN).then(|| {
        format!(
            "{name} runs {each:.2} statements per delivery; load and store whole batches to stay below 0.1"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::show;

    #[test]
    fn versions_are_listed_under_their_plugin() {
        let shown = show(&json!({"plugins": [{"name": "order-query", "versions": [
            {"version": "1.2.0", "digest": "51b0aa0000", "state": "active", "since": null, "units": 40,
             "deliveries": 5120, "statements": 2000, "errors": 0, "sagasInFlight": 0},
            {"version": null, "digest": "77d0c20000", "state": "rejected", "since": null,
             "reason": "a core module", "sagasInFlight": 0},
        ]}]}));
        insta::assert_snapshot!(shown, @r"
        NAME         VERSION  DIGEST   STATE     SINCE  UNITS  DELIVERIES  STATEMENTS  ERRORS  IN FLIGHT
        order-query  1.2.0    51b0aa…  active    –         40       5,120       2,000       0          0
                     –        77d0c2…  rejected  –          –           –           –       –          0
        order-query runs 0.39 statements per delivery; load and store whole batches to stay below 0.1
        order-query 77d0c2… was rejected: a core module
        ");
    }
}
