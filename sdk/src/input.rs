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
use crate::{context::Context, json::object, problem::Problem, timestamp::Timestamp};

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
    /// It is late, unknown, or in conflict with the state, and changed nothing. The host records it with
    /// this reason.
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

    /// The record's time in Kafka. It orders records that have no `sequence`.
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

    /// The query parameter of this name; none where there is none.
    ///
    /// # Errors
    /// 400 where it is given twice: one of its values would go unread.
    pub fn query(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.query.iter().filter(|(present, _)| present == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(Problem::parameter(name, "one value, not several")),
            None => Ok(value),
        }
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
