//! What a decision asks for besides its rows: messages, sagas, timers, log lines. Buffered, taken back with a
//! delivery that fails, and handed to the host once per batch.

use std::fmt::Display;

use serde::Serialize;

pub use crate::bindings::saga::plugin::{
    context::Level,
    kafka::Outgoing,
    sagas::{NewSaga, Transition},
    timers::Timer,
    types::Header,
};
use crate::{
    bindings::saga::plugin::types::{Culprit, Failure, Refusal},
    context::Context,
    timestamp::Timestamp,
    uuid::Uuid,
};

/// A log line.
#[derive(Clone, Debug)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// Who caused it.
    pub cause: u32,
    /// What happened.
    pub message: String,
    /// With which values.
    pub fields: Vec<(String, String)>,
}

/// Everything that a batch asks for, in its order.
#[derive(Debug)]
pub struct Effects<'a> {
    context: &'a Context<'a>,
    pub(crate) messages: Vec<Outgoing>,
    pub(crate) started: Vec<NewSaga>,
    pub(crate) transitions: Vec<Transition>,
    pub(crate) timers: Vec<Timer>,
    pub(crate) cancelled: Vec<String>,
    pub(crate) lines: Vec<Line>,
    culprits: Vec<Culprit>,
}

/// How many effects there were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark([usize; 5]);

impl<'a> Effects<'a> {
    /// No effects yet.
    #[must_use]
    pub fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            messages: Vec::new(),
            started: Vec::new(),
            transitions: Vec::new(),
            timers: Vec::new(),
            cancelled: Vec::new(),
            lines: Vec::new(),
            culprits: Vec::new(),
        }
    }

    /// The unit.
    #[must_use]
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// The same instant during the whole unit.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// A fresh version 7 id.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.context.new_uuid()
    }

    /// Publishes a JSON value. `event_type` is its CloudEvents `type`, e.g. `order-created`.
    pub fn publish(&mut self, topic: &str, event_type: &str, key: impl Display, value: &impl Serialize) {
        if let Some(payload) = self.json(value) {
            self.send(topic, event_type, &key, "application/json", payload.into_bytes());
        }
    }

    /// Publishes a text.
    pub fn publish_text(
        &mut self,
        topic: &str,
        event_type: &str,
        key: impl Display,
        text: impl Into<String>,
    ) {
        self.send(topic, event_type, &key, "text/plain; charset=utf-8", text.into().into_bytes());
    }

    /// Publishes any message; its `cause` is set here.
    pub fn publish_message(&mut self, message: Outgoing) {
        self.messages.push(Outgoing { cause: self.context.place(), ..message });
    }

    fn send(
        &mut self,
        topic: &str,
        event_type: &str,
        key: &dyn Display,
        content_type: &str,
        payload: Vec<u8>,
    ) {
        self.publish_message(Outgoing {
            cause: 0,
            topic: topic.to_owned(),
            key: Some(key.to_string().into_bytes()),
            event_type: event_type.to_owned(),
            content_type: content_type.to_owned(),
            headers: Vec::new(),
            payload: Some(payload),
        });
    }

    /// Sets a timer, or moves the one of this name. Its delivery is handled by the handler of
    /// [`crate::Definition::timer`].
    pub fn schedule(
        &mut self,
        name: impl Into<String>,
        due: Timestamp,
        correlation: Option<String>,
        payload: Vec<u8>,
    ) {
        let cause = self.context.place();
        self.timers.push(Timer { cause, name: name.into(), due: due.0, correlation, payload });
    }

    /// Takes a timer back.
    pub fn cancel(&mut self, name: impl Into<String>) {
        self.cancelled.push(name.into());
    }

    /// Writes a log line of the host.
    pub fn log(&mut self, level: Level, message: impl Into<String>, fields: &[(&str, &dyn Display)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        self.lines.push(Line { level, cause: self.context.place(), message: message.into(), fields });
    }

    /// A value as JSON text. One that has none makes the delivery a culprit.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Option<String> {
        serde_json::to_string(value).map_err(|error| self.blame("not-json", error.to_string())).ok()
    }

    /// The delivery that is being handled must not be committed.
    pub(crate) fn blame(&mut self, code: &str, message: String) {
        self.culprits.push(Culprit { cause: self.context.place(), code: code.to_owned(), message });
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark([
            self.messages.len(),
            self.started.len(),
            self.transitions.len(),
            self.timers.len(),
            self.cancelled.len(),
        ])
    }

    /// Takes back everything since the mark but log lines: they tell why.
    pub(crate) fn undo(&mut self, Mark([messages, started, transitions, timers, cancelled]): Mark) {
        self.messages.truncate(messages);
        self.started.truncate(started);
        self.transitions.truncate(transitions);
        self.timers.truncate(timers);
        self.cancelled.truncate(cancelled);
    }

    /// Hands everything to the host.
    pub(crate) fn flush(self) -> Result<(), Failure> {
        let host = self.context.host();
        for line in &self.lines {
            host.log(line.level, Some(line.cause), &line.message, &line.fields);
        }
        if !self.culprits.is_empty() {
            return Err(Failure { message: "a value has no JSON".to_owned(), culprits: self.culprits });
        }
        hand_over(&self.messages, |messages| host.publish(messages))?;
        hand_over(&self.started, |started| host.start(started))?;
        hand_over(&self.transitions, |transitions| host.advance(transitions))?;
        hand_over(&self.timers, |timers| host.schedule(timers))?;
        hand_over(&self.cancelled, |names| host.cancel(names))
    }
}

fn hand_over<T>(effects: &[T], to: impl Fn(&[T]) -> Result<(), Refusal>) -> Result<(), Failure> {
    if effects.is_empty() {
        return Ok(());
    }
    to(effects).map_err(|refusal| {
        let message = format!("{}: {}", refusal.code, refusal.message);
        let culprit = |cause| Culprit { cause, code: refusal.code, message: refusal.message };
        Failure { message, culprits: refusal.cause.map(culprit).into_iter().collect() }
    })
}
