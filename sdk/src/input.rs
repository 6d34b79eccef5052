//! Decodes bytes to what a handler decides on. An input that cannot be decoded is answered before any SQL
//! runs.

use serde::de::DeserializeOwned;

pub use crate::bindings::{
    exports::saga::plugin::{
        deliveries::{Delay, Delivery, Outcome, Source},
        requests::{Request, Response},
    },
    saga::plugin::types::SagaName,
};
use crate::{context::Context, problem::Problem, timestamp::Timestamp};

/// What a handler decides on, decoded from a delivery or a request.
pub trait Input: Sized {
    /// [`Delivery`] or [`Request`].
    type Source;
    /// [`Outcome`] or [`Response`].
    type Answer: Answer;

    /// Decodes it.
    ///
    /// # Errors
    /// The answer to an input that cannot be decoded. No handler runs for it.
    fn decode(source: &Self::Source, context: &Context<'_>) -> Result<Self, Self::Answer>;
}

/// The answer to a delivery or to a request.
pub trait Answer {
    /// Whether its rows and effects are kept.
    fn keeps(&self) -> bool;
}

impl Answer for Outcome {
    fn keeps(&self) -> bool {
        matches!(self, Outcome::Done)
    }
}

impl Answer for Response {
    fn keeps(&self) -> bool {
        self.status < 400
    }
}

impl Outcome {
    /// It is late, unknown or contradicting, and changed nothing. The host records it with this reason.
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self::Ignored(reason.into())
    }

    /// It can never be handled: the host parks it for a person, with this reason.
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    /// Not now: the host parks it and tries again after at least this many milliseconds. Later deliveries of
    /// its key wait behind it.
    pub fn retry(after_ms: u32, reason: impl Into<String>) -> Self {
        Self::Retry(Delay { after_ms, reason: reason.into() })
    }
}

/// The value of a Kafka record, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<T>(pub T);

impl<T: DeserializeOwned> Input for Event<T> {
    type Source = Delivery;
    type Answer = Outcome;

    fn decode(delivery: &Delivery, _: &Context<'_>) -> Result<Self, Outcome> {
        delivery.json().map(Self)
    }
}

/// The JSON body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> Input for Body<T> {
    type Source = Request;
    type Answer = Response;

    fn decode(request: &Request, _: &Context<'_>) -> Result<Self, Response> {
        Ok(Self(request.json()?))
    }
}

impl Delivery {
    /// The topic of the record; empty for timers and deadlines.
    #[must_use]
    pub fn topic(&self) -> &str {
        match &self.source {
            Source::Kafka(position) => &position.topic,
            _ => "",
        }
    }

    /// The record's time in Kafka.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp(self.timestamp)
    }

    /// The value as JSON. Unknown members are ignored.
    ///
    /// # Errors
    /// [`Outcome::Reject`] with the member that does not fit, or for a tombstone.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Outcome> {
        object(self.value()?).map_err(|error| Outcome::reject(error.to_string()))
    }

    /// The value as text.
    ///
    /// # Errors
    /// [`Outcome::Reject`] for a value that is not UTF-8, or for a tombstone.
    pub fn text(&self) -> Result<&str, Outcome> {
        std::str::from_utf8(self.value()?).map_err(|_| Outcome::reject("the value is not UTF-8"))
    }

    fn value(&self) -> Result<&[u8], Outcome> {
        self.payload.as_deref().ok_or_else(|| Outcome::reject("a tombstone: the record has no value"))
    }
}

impl Request {
    /// The first header of this name, which is in lower case; none where it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The path's parameter at `place`, from 0; empty where there is none.
    #[must_use]
    pub fn param(&self, place: usize) -> &str {
        self.params.get(place).map_or("", String::as_str)
    }

    /// The first query parameter of this name.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON. Unknown members are ignored.
    ///
    /// # Errors
    /// 415 for another content type, 400 with the member that does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let content_type = self.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(415, format!("the body must be application/json, not {media_type:?}")));
        }
        object(&self.body).map_err(|error| match &error.member {
            Some(member) => Problem::member(member, &error.reason),
            None => Problem::new(400, format!("the body {}", error.reason)),
        })
    }
}

/// Why bytes are not the JSON object that was expected.
#[derive(Debug)]
struct NotObject {
    member: Option<String>,
    reason: String,
}

impl std::fmt::Display for NotObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{member}: {}", self.reason),
            None => write!(f, "the value {}", self.reason),
        }
    }
}

/// Decodes an object. Only bytes that do not fit are read a second time, to find the member.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotObject> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotObject { member: None, reason: "is not a JSON object".to_owned() });
    }
    serde_json::from_slice(bytes).map_err(|_| explain::<T>(bytes))
}

fn explain<T: DeserializeOwned>(bytes: &[u8]) -> NotObject {
    let json = &mut serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(json) else {
        return NotObject { member: None, reason: "has something behind its JSON object".to_owned() };
    };
    let path = error.path().to_string();
    let reason = error.into_inner();
    match (reason.is_data(), path.as_str()) {
        (true, ".") => NotObject { member: quoted(&reason.to_string()), reason: plain(&reason) },
        (true, _) => NotObject { member: Some(path), reason: plain(&reason) },
        (false, _) => NotObject { member: None, reason: format!("is not JSON: {reason}") },
    }
}

/// The member that a message such as "missing field `orderQty`" names.
fn quoted(message: &str) -> Option<String> {
    message.split('`').nth(1).map(str::to_owned)
}

/// The message without the line and column, which are of no use for a one-line body.
fn plain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde::Deserialize;

    use super::object;
    use crate::{positive::Positive, uuid::Uuid};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only decoded")]
    struct Order {
        order_id: Option<Uuid>,
        order_qty: Positive,
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (bytes, expected) in [
            (&b"{}"[..], "orderQty: missing field `orderQty`"),
            (
                br#"{"orderQty":0}"#,
                "orderQty: invalid value: integer `0`, expected a whole number from 1 to 2147483647",
            ),
            (
                br#"{"orderQty":"1"}"#,
                "orderQty: invalid type: string \"1\", expected a whole number from 1 to 2147483647",
            ),
            (br#"{"orderQty":1,"orderQty":2}"#, "orderQty: duplicate field `orderQty`"),
            (br#"{"orderId":"a","orderQty":1}"#, "orderId: expected a hyphenated UUID"),
            (
                br#"{"orderId":5,"orderQty":1}"#,
                "orderId: invalid type: integer `5`, expected a hyphenated UUID",
            ),
            (b"", "the value is not a JSON object"),
            (b"[1,2]", "the value is not a JSON object"),
            (b"null", "the value is not a JSON object"),
            (br#"{"orderQty":1} x"#, "the value has something behind its JSON object"),
            (b"{", "the value is not JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(object::<Order>(bytes).err().unwrap().to_string(), expected);
        }
        assert!(object::<Order>(&[b'{', 0xff, b'}']).is_err());
        assert!(object::<Order>(format!("{{\"a\":{}", "[".repeat(20_000)).as_bytes()).is_err());
    }

    #[test]
    fn other_members_order_and_space_are_accepted() {
        let order: Order =
            object(b" {\n\"note\":{\"a\":[1,null]}, \"orderQty\" : 3, \"orderId\":null}\n").unwrap();
        assert_eq!((order.order_id, order.order_qty.get()), (None, 3));
    }
}
