//! `saga-host parked`

use serde_json::Value;

use super::{
    client::{Client, segment},
    table::{Table, age, count, cut, text},
};

const REASON_SHOWN: usize = 80;

#[derive(Debug, clap::Args)]
pub(super) struct Parked {
    /// Id of one parked delivery, to show its content
    id: Option<String>,
    /// Only those of this plugin
    #[arg(long)]
    plugin: Option<String>,
    /// Only those with this text in the reason
    #[arg(long)]
    reason: Option<String>,
    /// Only those of this key
    #[arg(long)]
    key: Option<String>,
    /// Only those in this state: retrying, queued or dead_letter
    #[arg(long)]
    state: Option<String>,
    /// Entries per page, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where the previous page ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Parked {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if let Some(id) = &self.id {
            let answer = self.client.get(&format!("/v1/parked/{}", segment(id)), &[])?;
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
        let answer = self.client.get("/v1/parked", &query)?;
        self.client.show(&answer, show);
        Ok(())
    }
}

fn show(answer: &Value) -> String {
    let parked = answer["parked"].as_array().map(Vec::as_slice).unwrap_or_default();
    if parked.is_empty() {
        return "nothing is parked".to_owned();
    }
    let mut table = Table::new(&["ID", "STATE", "ATTEMPTS", "AGE", "SOURCE", "KEY", "REASON"]);
    for entry in parked {
        let topic = text(&entry["topic"]);
        let source = match entry["offset"].as_i64() {
            Some(offset) => format!("{topic}/{}/{offset}", entry["partition"]),
            None => format!("to {topic}/{}", entry["partition"]),
        };
        table.row([
            text(&entry["id"]),
            text(&entry["state"]),
            count(&entry["attempts"]),
            age(&entry["parkedAt"]),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::show;

    #[test]
    fn parked_deliveries_and_records_are_listed() {
        let shown = show(&json!({
            "parked": [
                {
                    "id": "order-query-12", "direction": "in", "state": "dead_letter", "attempts": 5,
                    "topic": "order-created-topic", "partition": 3, "offset": 40, "key": "o-1",
                    "reason": "no such column: note",
                },
                {
                    "id": "notification-3", "direction": "out", "state": "dead_letter", "attempts": 0,
                    "topic": "order-created-topic", "partition": 1, "key": null,
                    "reason": "the record is too large",
                },
            ],
            "next": "7b7d",
        }));
        insta::assert_snapshot!(shown, @r"
        ID              STATE        ATTEMPTS  AGE  SOURCE                    KEY  REASON
        order-query-12  dead_letter         5  –    order-created-topic/3/40  o-1  no such column: note
        notification-3  dead_letter         0  –    to order-created-topic/1  –    the record is too large
        more with --cursor 7b7d
        ");
        insta::assert_snapshot!(show(&json!({"parked": [], "next": null})), @"nothing is parked");
    }
}
