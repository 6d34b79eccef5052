//! `saga-host held`

use serde_json::Value;

use super::{
    client::{Client, segment},
    table::{Table, age, count, cut, text},
};

const REASON_SHOWN: usize = 80;

#[derive(Debug, clap::Args)]
pub(super) struct Held {
    /// Show this one, with its content
    id: Option<String>,
    /// Only of this plugin
    #[arg(long)]
    plugin: Option<String>,
    /// Only with this text in the reason
    #[arg(long)]
    reason: Option<String>,
    /// Only of this key
    #[arg(long)]
    key: Option<String>,
    /// queued, retrying or parked
    #[arg(long)]
    state: Option<String>,
    /// Entries of a page, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Held {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(id) = &self.id {
            let answer = self.client.get(&format!("/v1/held/{}", segment(id)), &[])?;
            self.client.show(&answer, |answer| serde_json::to_string_pretty(answer).unwrap_or_default());
            return Ok(());
        }
        let query = [
            ("plugin", self.plugin),
            ("reason", self.reason),
            ("key", self.key),
            ("state", self.state),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor),
        ];
        let answer = self.client.get("/v1/held", &query)?;
        self.client.show(&answer, show);
        Ok(())
    }
}

fn show(answer: &Value) -> String {
    let held = answer["held"].as_array().map(Vec::as_slice).unwrap_or_default();
    if held.is_empty() {
        return "nothing is held".to_owned();
    }
    let mut table = Table::new(&["ID", "STATE", "ATTEMPTS", "AGE", "SOURCE", "KEY", "REASON"]);
    for entry in held {
        let topic = text(&entry["topic"]);
        let source = match entry["offset"].as_i64() {
            Some(offset) => format!("{topic}/{}/{offset}", entry["partition"]),
            None => format!("to {topic}/{}", entry["partition"]),
        };
        table.row([
            text(&entry["id"]),
            text(&entry["state"]),
            count(&entry["attempts"]),
            age(&entry["heldAt"]),
            source,
            text(&entry["key"]),
            cut(&text(&entry["reason"]), REASON_SHOWN),
        ]);
    }
    match answer["next"].as_str() {
        Some(next) => format!("{}\nmore with --cursor {next}", table.text()),
        None => table.text(),
    }
}
