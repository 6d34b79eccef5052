//! The log of a saga: one JSON object a line, stored in its row. People see it as a timeline.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

/// The event of a saga's first line. Only the host writes it.
pub const STARTED: &str = "SAGA_STARTED";
/// The event of a deadline that passed while the saga went on waiting. Only the host writes it.
pub const OVERDUE: &str = "SAGA_OVERDUE";

/// The event that stands for a line of another build.
const UNREADABLE: &str = "UNREADABLE";

/// Bytes to allocate for a line: most fit.
const LINE_BYTES: usize = 512;

/// One transition: a line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// RFC 3339, UTC.
    pub at: Cow<'a, str>,
    /// What happened, past tense, as the plugin named it.
    pub event: Cow<'a, str>,
    /// The state after it.
    pub state: Cow<'a, str>,
    /// The revision after it.
    pub revision: i64,
    /// Digest of the version that decided on it.
    pub digest: Cow<'a, str>,
    /// Trace id, 32 hex digits.
    pub trace: String,
    /// What caused it.
    pub cause: Cow<'a, Cause<'a>>,
    /// The records that it sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent<'a>>,
}

/// The delivery or request that caused a transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause<'a> {
    /// `request`, `kafka`, `timer` or `deadline`.
    pub kind: Cow<'a, str>,
    /// Message or request id, or the timer's name.
    pub id: Cow<'a, str>,
    /// Of a record of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Cow<'a, str>>,
    /// Of a record of Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// Of a record of Kafka; null for one that was handed over before Kafka had given it an offset.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "null_or_number")]
    pub offset: Option<Option<i64>>,
}

/// A member that is there, also when it is null.
fn null_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A record that a transition sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent<'a> {
    /// Topic.
    pub topic: Cow<'a, str>,
    /// `ce_id`.
    pub id: Cow<'a, str>,
}

impl Entry<'_> {
    /// The line, with a line feed at its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = Vec::with_capacity(LINE_BYTES);
        // Texts and numbers written to memory: this cannot fail.
        let _written = serde_json::to_writer(&mut line, self);
        line.push(b'\n');
        String::from_utf8(line).unwrap_or_default()
    }

    /// Reads a log. Members that this build does not know are left out. A line that it cannot read at all is
    /// an entry that says so.
    #[must_use]
    pub fn read(log: &str) -> Vec<Entry<'static>> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| Entry::unreadable());
        log.lines().map(read).collect()
    }

    fn unreadable() -> Entry<'static> {
        let kind = Cow::Borrowed("unknown: this build cannot read the line");
        let cause = Cause { kind, id: "".into(), topic: None, partition: None, offset: None };
        Entry {
            at: "".into(),
            event: UNREADABLE.into(),
            state: "".into(),
            revision: 0,
            digest: "".into(),
            trace: String::new(),
            cause: Cow::Owned(cause),
            sent: Vec::new(),
        }
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
    use std::borrow::Cow;

    use super::{Cause, Entry, rfc3339};

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let entry = Entry {
            at: rfc3339(1_700_000_000_000_001).into(),
            event: "ORDER_CREATED".into(),
            state: "SAGA_STARTED".into(),
            revision: 1,
            digest: "ab".into(),
            trace: "0".repeat(32),
            cause: Cow::Owned(Cause {
                kind: "request".into(),
                id: "r1".into(),
                topic: None,
                partition: None,
                offset: None,
            }),
            sent: vec![],
        };
        assert_eq!(entry.at, "2023-11-14T22:13:20.000001Z");
        let (line, more) = (entry.line(), entry.line().replacen('{', r#"{"added":1,"#, 1));
        let read = Entry::read(&format!("{line}{{}}\n{more}"));
        assert_eq!((&read[0], &*read[1].event, &read[2]), (&entry, "UNREADABLE", &entry));
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn an_offset_is_a_number_or_null_or_missing() {
        for (offset, member) in
            [(None, ""), (Some(None), r#","offset":null"#), (Some(Some(7)), r#","offset":7"#)]
        {
            let cause = Cause { kind: "kafka".into(), id: "i".into(), topic: None, partition: None, offset };
            let text = serde_json::to_string(&cause).unwrap_or_default();
            assert_eq!(text, format!(r#"{{"kind":"kafka","id":"i"{member}}}"#));
            assert_eq!(serde_json::from_str::<Cause<'_>>(&text).ok(), Some(cause));
        }
    }
}
