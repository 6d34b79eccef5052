//! What a decision asks for besides its rows: messages, sagas, timers, log lines. They are buffered, dropped
//! when the answer is a "no", and sent to the host once per batch.

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
    /// The level.
    pub level: Level,
    /// The place of the delivery or request in the batch.
    pub cause: u32,
    /// The message.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// The effects of a batch, in order.
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

/// The number of effects of each kind at some time.
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

    /// The context of the unit.
    #[must_use]
    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// The time of the unit.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// A fresh id of version 7.
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

    /// Publishes a text in UTF-8.
    pub fn publish_text(
        &mut self,
        topic: &str,
        event_type: &str,
        key: impl Display,
        text: impl Into<String>,
    ) {
        self.send(topic, event_type, &key, "text/plain; charset=utf-8", text.into().into_bytes());
    }

    /// Publishes any message. Its `cause` is set here.
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

    /// Sets a timer, or replaces the one of this name. [`crate::Definition::timer`] names the handler of its
    /// delivery.
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

    /// Cancels a timer.
    pub fn cancel(&mut self, name: impl Into<String>) {
        self.cancelled.push(name.into());
    }

    /// Writes a line to the host's log, also if the delivery fails.
    pub fn log(&mut self, level: Level, message: impl Into<String>, fields: &[(&str, &dyn Display)]) {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        self.lines.push(Line { level, cause: self.context.place(), message: message.into(), fields });
    }

    /// A value as JSON. One that cannot be written as JSON makes the delivery a culprit.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Option<String> {
        serde_json::to_string(value).map_err(|error| self.blame("not-json", error.to_string())).ok()
    }

    /// Makes the delivery that is being handled a culprit.
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

    /// Drops all effects since the mark, but not the log lines: they say why.
    pub(crate) fn undo(&mut self, Mark([messages, started, transitions, timers, cancelled]): Mark) {
        self.messages.truncate(messages);
        self.started.truncate(started);
        self.transitions.truncate(transitions);
        self.timers.truncate(timers);
        self.cancelled.truncate(cancelled);
    }

    /// Sends everything to the host.
    pub(crate) fn flush(self) -> Result<(), Failure> {
        let host = self.context.host();
        for line in &self.lines {
            host.log(line.level, Some(line.cause), &line.message, &line.fields);
        }
        if !self.culprits.is_empty() {
            return Err(Failure {
                message: "a value cannot be written as JSON".to_owned(),
                culprits: self.culprits,
            });
        }
        send_to(&self.messages, |messages| host.publish(messages))?;
        send_to(&self.started, |started| host.start(started))?;
        send_to(&self.transitions, |transitions| host.advance(transitions))?;
        send_to(&self.timers, |timers| host.schedule(timers))?;
        send_to(&self.cancelled, |names| host.cancel(names))
    }
}

fn send_to<T>(effects: &[T], to: impl Fn(&[T]) -> Result<(), Refusal>) -> Result<(), Failure> {
    if effects.is_empty() {
        return Ok(());
    }
    to(effects).map_err(|refusal| {
        let message = format!("{}: {}", refusal.code, refusal.message);
        let culprit = |cause| Culprit { cause, code: refusal.code, message: refusal.message };
        Failure { message, culprits: refusal.cause.map(culprit).into_iter().collect() }
    })
}
