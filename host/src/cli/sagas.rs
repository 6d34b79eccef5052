//! `saga-host sagas`

use serde_json::Value;

use super::{
    client::Client,
    table::{Table, age, digest, text},
};

#[derive(Debug, clap::Args)]
pub(super) struct Sagas {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    saga_type: Option<String>,
    /// Only those in this state: live, overdue, completed, compensated, failed, or one of the plugin's
    #[arg(long)]
    state: Option<String>,
    /// Only those of this key
    #[arg(long)]
    key: Option<String>,
    /// Entries per page, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// Where the previous page ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Sagas {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let query = [
            ("type", self.saga_type),
            ("state", self.state),
            ("key", self.key),
            ("limit", Some(self.limit.to_string())),
            ("cursor", self.cursor),
        ];
        let answer = self.client.get("/v1/sagas", &query)?;
        self.client.show(&answer, show);
        Ok(())
    }
}

fn show(answer: &Value) -> String {
    let mut table = Table::new(&["TYPE", "KEY", "STATUS", "STATE", "AGE", "VERSION"]);
    for saga in answer["sagas"].as_array().into_iter().flatten() {
        table.row([
            text(&saga["type"]),
            text(&saga["key"]),
            text(&saga["status"]),
            text(&saga["state"]),
            age(&saga["startedAt"]),
            digest(&saga["digest"]),
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
    fn sagas_are_listed() {
        let row = ("order", "51b0aa0000");
        let saga = |key, status, state| {
            json!({
                "type": row.0, "key": key, "status": status, "state": state, "digest": row.1,
            })
        };
        let shown = show(&json!({
            "sagas": [saga("o-2", "overdue", "SAGA_STARTED"), saga("o-1", "completed", "SAGA_COMPLETE")],
            "next": null,
        }));
        insta::assert_snapshot!(shown, @r"
        TYPE   KEY  STATUS     STATE          AGE  VERSION
        order  o-2  overdue    SAGA_STARTED   –    51b0aa…
        order  o-1  completed  SAGA_COMPLETE  –    51b0aa…
        ");
    }
}
