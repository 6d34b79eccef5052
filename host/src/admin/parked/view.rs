//! A parked delivery or record as the API shows it.

use serde::Serialize;
use serde_json::{Value, json};

use super::statements::ParkedCursor;
use crate::model::{
    delivery::Delivery,
    format::{Format, Unreadable},
    plugin_name::PluginName,
    record::{Record, decode},
    saga_log::rfc3339,
};

/// A longer value is cut.
const VALUE_SHOWN_MAX: usize = 64 << 10;

/// Names an entry across all databases: `PLUGIN-NUMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParkedId {
    pub(super) plugin: String,
    pub(super) row_id: i64,
}

impl ParkedId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (plugin, number) = text.rsplit_once('-')?;
        Some(Self { plugin: PluginName::parse(plugin).ok()?.to_string(), row_id: number.parse().ok()? })
    }

    pub(super) fn text(plugin: &str, row_id: i64) -> String {
        format!("{plugin}-{row_id}")
    }
}

/// One entry. `body` is there only when its content is asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parked {
    pub(super) id: String,
    pub(super) plugin: String,
    pub(super) database: String,
    /// `in`: a delivery for the plugin; `out`: a record of the plugin that Kafka refused.
    pub(super) direction: String,
    pub(super) state: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Only of a delivery that was read from Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<i64>,
    pub(super) key: Option<String>,
    pub(super) reason: String,
    pub(super) attempts: i32,
    pub(super) parked_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_at: Option<String>,
    /// Why this build cannot read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unreadable: Option<String>,
    #[serde(skip)]
    pub(super) row_id: i64,
    #[serde(skip)]
    pub(super) parked_at_us: i64,
    #[serde(skip)]
    pub(super) body: Vec<u8>,
}

impl Parked {
    pub(super) fn cursor(&self) -> ParkedCursor {
        ParkedCursor { parked_at_us: self.parked_at_us, database: self.database.clone(), row_id: self.row_id }
    }

    /// Where it came from or was to go, as `saga.ignored` names it.
    pub(super) fn source(&self) -> String {
        match self.offset {
            Some(offset) => format!("{}/{}/{offset}", self.topic, self.partition),
            None => format!("{}/{}", self.topic, self.partition),
        }
    }

    /// The entry with its content: the delivery or the record.
    pub(super) fn detail(&self) -> Value {
        let mut shown = json!(self);
        match self.content() {
            Ok(content) => shown["content"] = content,
            Err(unreadable) => shown["unreadable"] = json!(unreadable.to_string()),
        }
        shown
    }

    fn content(&self) -> Result<Value, Unreadable> {
        if self.direction == "in" {
            return Delivery::decode(&self.body).map(|delivery| of_delivery(&delivery));
        }
        decode(&self.body).map(|records| records.first().map_or(Value::Null, of_record))
    }

    /// Why this build cannot read a body, as far as its first bytes show it.
    pub(super) fn unreadable(head: &[u8]) -> Option<String> {
        Format::readable(head).err().map(|unreadable| unreadable.to_string())
    }
}

fn of_delivery(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "source": delivery.origin.to_string(),
        "eventType": delivery.event_type,
        "key": delivery.key.as_deref().map(text),
        "headers": headers(&delivery.headers),
        "value": delivery.payload.as_deref().map(text),
        "timestamp": rfc3339(delivery.timestamp_us),
        "trace": delivery.trace.id(),
    })
}

fn of_record(record: &Record) -> Value {
    json!({
        "key": record.key.as_deref().map(text),
        "headers": headers(&record.headers),
        "value": record.payload.as_deref().map(text),
    })
}

fn headers(headers: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!({ "name": name.as_ref(), "value": text(value.as_ref()) }))
        .collect()
}

/// UTF-8 as text, other bytes in hex. A long value is cut, and its full length is named.
fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(VALUE_SHOWN_MAX)];
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&shown[..error.valid_up_to()]).into_owned()
        }
        Err(_) => format!("hex {}", hex::encode(shown)),
    };
    if shown.len() < bytes.len() {
        text.push_str(&format!("… ({} bytes in all)", bytes.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ParkedId, VALUE_SHOWN_MAX, text};

    #[test]
    fn an_id_names_plugin_and_row() {
        let id = ParkedId { plugin: "order-query".into(), row_id: 12 };
        assert_eq!(ParkedId::parse("order-query-12"), Some(id.clone()));
        assert_eq!(ParkedId::parse(&ParkedId::text(&id.plugin, id.row_id)), Some(id));
        for bad in ["", "12", "999999999", "-12", "order-query", "order-query-", "order-query-x"] {
            assert_eq!(ParkedId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_are_shown_as_text_where_they_are_text() {
        assert_eq!(text("{\"a\":\"ä\"}".as_bytes()), "{\"a\":\"ä\"}");
        assert_eq!(text(&[0xff, 0xfe, 0]), "hex fffe00");
        let long = "ä".repeat(VALUE_SHOWN_MAX);
        assert!(text(long.as_bytes()).ends_with(&format!("ä… ({} bytes in all)", long.len())));
    }
}
