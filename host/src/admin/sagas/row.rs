//! A saga as its row stores it, and as the API shows it.

use serde::Serialize;
use serde_json::Value;

use super::statements::SagaCursor;
use crate::{
    admin::ignored::Ignored,
    model::saga_log::{Entry, rfc3339},
};

/// One row of `saga.saga_live` or `saga.saga_done`. Times are microseconds since 1970.
pub(super) struct SagaRow {
    pub(super) database: String,
    pub(super) saga_type: String,
    pub(super) key: String,
    /// `infinity` until it ends.
    pub(super) day: String,
    pub(super) plugin: String,
    pub(super) version: String,
    pub(super) revision: i64,
    pub(super) state: String,
    pub(super) overdue: bool,
    pub(super) started_at: i64,
    pub(super) next_at: Option<i64>,
    pub(super) ended_at: Option<i64>,
    pub(super) ending: Option<String>,
    /// Empty in a list, as `answer` and `log`.
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
    /// Of the version that handles it.
    digest: String,
    revision: i64,
    overdue: bool,
    started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
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

impl SagaRow {
    pub(super) fn cursor(&self) -> SagaCursor {
        SagaCursor {
            database: self.database.clone(),
            saga_type: self.saga_type.clone(),
            key: self.key.clone(),
            day: self.day.clone(),
            started_at_us: self.started_at,
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
            started_at: rfc3339(self.started_at),
            next_at: self.next_at.map(rfc3339),
            ended_at: self.ended_at.map(rfc3339),
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

/// JSON, or text where it is not JSON.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
