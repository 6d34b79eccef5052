//! `saga-host saga`

use anyhow::bail;
use serde_json::Value;

use super::{
    client::{Client, segment},
    output,
    table::{Table, clock, cut, digest, text},
};

/// Characters of the data on a terminal; another program gets all of it.
const DATA_SHOWN: usize = 110;

#[derive(Debug, clap::Args)]
pub(super) struct Saga {
    /// Key of the saga
    key: String,
    /// Type of the saga [default: the only type with this key]
    #[arg(long = "type", value_name = "TYPE")]
    saga_type: Option<String>,
    #[command(flatten)]
    client: Client,
}

impl Saga {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let saga_type = match &self.saga_type {
            Some(saga_type) => saga_type.clone(),
            None => self.only_type()?,
        };
        let path = format!("/v1/sagas/{}/{}", segment(&saga_type), segment(&self.key));
        let answer = self.client.get(&path, &[])?;
        self.client.show(&answer, show);
        Ok(())
    }

    /// The type of this key's sagas.
    ///
    /// # Errors
    /// No saga has this key, or sagas of several types have it.
    fn only_type(&self) -> anyhow::Result<String> {
        let found = self.client.get("/v1/sagas", &[("key", Some(self.key.clone()))])?;
        let mut types: Vec<String> =
            found["sagas"].as_array().into_iter().flatten().map(|saga| text(&saga["type"])).collect();
        types.dedup();
        match types.as_slice() {
            [one] => Ok(one.clone()),
            [] => bail!("there is no saga {}; `saga-host sagas` lists them", self.key),
            several => {
                bail!(
                    "sagas of several types have the key {}: choose one with --type: {}",
                    self.key,
                    several.join(", ")
                )
            }
        }
    }
}

fn show(saga: &Value) -> String {
    let data_shown = if output::is_terminal() { DATA_SHOWN } else { usize::MAX };
    let mut lines = vec![format!(
        "{} {}  {}, state {}, started {}{}",
        text(&saga["type"]),
        text(&saga["key"]),
        text(&saga["status"]),
        text(&saga["state"]),
        text(&saga["startedAt"]),
        match saga["nextAt"].as_str() {
            Some(at) => format!(", due {at}"),
            None => String::new(),
        }
    )];
    lines.push(format!(
        "{} {}  {}",
        text(&saga["plugin"]),
        digest(&saga["digest"]),
        cut(&saga["data"].to_string(), data_shown)
    ));
    let mut table = Table::new(&["TIME", "EVENT", "STATE", "BY", "CAUSE", "SENT"]);
    for step in saga["timeline"].as_array().into_iter().flatten() {
        table.row([
            clock(&step["at"]),
            text(&step["event"]),
            text(&step["state"]),
            digest(&step["digest"]),
            cause(&step["cause"]),
            sent(step),
        ]);
    }
    for ignored in saga["ignored"].as_array().into_iter().flatten() {
        table.row([
            clock(&ignored["at"]),
            "ignored".to_owned(),
            String::new(),
            String::new(),
            text(&ignored["source"]),
            text(&ignored["reason"]),
        ]);
    }
    lines.push(table.text());
    lines.join("\n")
}

fn cause(cause: &Value) -> String {
    match cause["topic"].as_str() {
        Some(topic) if cause["offset"].is_null() => format!("{topic}/{}", cause["partition"]),
        Some(topic) => format!("{topic}/{}/{}", cause["partition"], cause["offset"]),
        None => format!("{} {}", text(&cause["kind"]), cut(&text(&cause["id"]), 40)),
    }
}

fn sent(step: &Value) -> String {
    let topics: Vec<String> =
        step["sent"].as_array().into_iter().flatten().map(|sent| text(&sent["topic"])).collect();
    topics.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::show;

    #[test]
    fn a_timeline_reads_from_cause_to_effect() {
        let shown = show(&json!({
            "type": "order", "key": "o-1", "status": "completed", "state": "SAGA_COMPLETE",
            "plugin": "order-orchestrator", "digest": "51b0aa0000",
            "startedAt": "2026-11-22T19:28:00.000000Z",
            "data": {"productId": 7},
            "timeline": [
                {
                    "at": "2026-11-22T19:28:00.000000Z", "event": "SAGA_STARTED", "state": "SAGA_STARTED",
                    "digest": "51b0aa0000", "cause": {"kind": "request", "id": "r-1"},
                    "sent": [{"topic": "order-created-topic", "id": "x"}],
                },
                {
                    "at": "2026-11-22T19:28:00.012000Z", "event": "DEDUCTED", "state": "SAGA_COMPLETE",
                    "digest": "51b0aa0000",
                    "cause": {
                        "kind": "kafka", "id": "y", "topic": "inventory-deducted-topic",
                        "partition": 3, "offset": 12,
                    },
                },
            ],
            "ignored": [
                {
                    "at": "2026-11-22T19:29:00.000000Z", "source": "inventory-deducted-topic/3/13",
                    "reason": "ended",
                },
            ],
        }));
        insta::assert_snapshot!(shown, @r#"
        order o-1  completed, state SAGA_COMPLETE, started 2026-11-22T19:28:00.000000Z
        order-orchestrator 51b0aa…  {"productId":7}
        TIME          EVENT         STATE          BY       CAUSE                          SENT
        19:28:00.000  SAGA_STARTED  SAGA_STARTED   51b0aa…  request r-1                    order-created-topic
        19:28:00.012  DEDUCTED      SAGA_COMPLETE  51b0aa…  inventory-deducted-topic/3/12
        19:29:00.000  ignored                               inventory-deducted-topic/3/13  ended
        "#);
    }
}
