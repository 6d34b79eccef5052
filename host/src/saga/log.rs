//! The log of a saga: one JSON object a line, kept in its row. The timeline that a person sees.

use serde::{Deserialize, Serialize};

/// What is known of one transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub at: String,
    /// What happened, past tense, as the plugin named it.
    pub event: String,
    /// The state that it led to.
    pub state: String,
    /// Counts transitions, from 1.
    pub revision: i64,
    /// Digest of the version that decided.
    pub digest: String,
    /// Trace id, 32 hex digits.
    pub trace: String,
    /// What it was decided on.
    pub cause: Cause,
    /// What was sent because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent>,
}

/// What a transition was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `request`, `kafka`, `timer` or `deadline`.
    pub kind: String,
    /// Message or request id, or the timer's name.
    pub id: String,
    /// Of a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Of a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Of a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// A record that a transition sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Topic.
    pub topic: String,
    /// `ce_id`.
    pub id: String,
}

impl Entry {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads a log; lines of another form are left out.
    #[must_use]
    pub fn read(log: &str) -> Vec<Self> {
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// RFC 3339 in UTC, microseconds.
#[must_use]
pub fn rfc3339(microseconds: i64) -> String {
    use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};
    const FORMAT: &[FormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(microseconds) * 1_000)
        .ok()
        .and_then(|time| time.format(FORMAT).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Cause, Entry, rfc3339};

    #[test]
    fn a_log_is_read_back_as_it_was_written() {
        let entry = Entry {
            at: rfc3339(1_700_000_000_000_001),
            event: "ORDER_CREATED".into(),
            state: "SAGA_STARTED".into(),
            revision: 1,
            digest: "ab".into(),
            trace: "0".repeat(32),
            cause: Cause { kind: "request".into(), id: "r1".into(), topic: None, partition: None, offset: None },
            sent: vec![],
        };
        assert_eq!(entry.at, "2023-11-14T22:13:20.000001Z");
        assert_eq!(Entry::read(&format!("{}{}", entry.line(), entry.line())), [entry.clone(), entry]);
    }
}
