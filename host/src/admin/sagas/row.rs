//! A saga as its row holds it, and as the API shows it.

use serde::Serialize;
use serde_json::Value;

use super::statements::{Ignored, Place};
use crate::model::saga_log::{Entry, rfc3339};

/// One row of `saga.saga_live` or `saga.saga_done`. Times are microseconds since 1970.
pub(super) struct Row {
    pub(super) database: String,
    pub(super) saga_type: String,
    pub(super) key: String,
    /// `infinity` while it lives.
    pub(super) day: String,
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) revision: i64,
    pub(super) state: String,
    pub(super) overdue: bool,
    pub(super) began: i64,
    pub(super) next_at: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) ending: Option<String>,
    /// Only where a timeline is asked for.
    pub(super) data: String,
    pub(super) answer: Option<String>,
    pub(super) log: String,
}

/// A saga in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    #[serde(rename = "type")]
    saga_type: String,
    key: String,
    status: String,
    state: String,
    plugin: String,
    database: String,
    /// Of the version that it stays with.
    digest: String,
    revision: i64,
    overdue: bool,
    began: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_look: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<String>,
}

/// A saga with all that happened to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timeline {
    #[serde(flatten)]
    summary: Summary,
    data: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Value>,
    timeline: Vec<Entry<'static>>,
    ignored: Vec<Ignored>,
}

impl Row {
    pub(super) fn place(&self) -> Place {
        Place {
            database: self.database.clone(),
            saga_type: self.saga_type.clone(),
            key: self.key.clone(),
            day: self.day.clone(),
        }
    }

    pub(super) fn summary(self) -> Summary {
        let status = match &self.ending {
            Some(ending) => ending.clone(),
            None if self.overdue => "overdue".to_owned(),
            None => "live".to_owned(),
        };
        Summary {
            saga_type: self.saga_type,
            key: self.key,
            status,
            state: self.state,
            plugin: self.plugin,
            database: self.database,
            digest: self.version,
            revision: self.revision,
            overdue: self.overdue,
            began: rfc3339(self.began),
            next_look: self.next_at.map(rfc3339),
            ended: self.ended.map(rfc3339),
            ending: self.ending,
        }
    }

    pub(super) fn timeline(mut self, ignored: Vec<Ignored>) -> Timeline {
        Timeline {
            data: json(&std::mem::take(&mut self.data)),
            answer: self.answer.take().as_deref().map(json),
            timeline: Entry::read(&self.log),
            ignored,
            summary: self.summary(),
        }
    }
}

/// JSON as it stands; what is none is shown as text.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
