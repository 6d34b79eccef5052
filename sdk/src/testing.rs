//! For native tests of a plugin: no component, no database.
//!
//! [`fold`] runs decisions on rows that the test gives. [`TestHost`] stands in for the host in a test from
//! record to effects: it answers statements from a list, and records the statements and effects.
#![allow(clippy::expect_used, reason = "a test may panic")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
};

use serde::Serialize;

use crate::{
    bindings::{
        exports::saga::plugin::deliveries::{Position, SagaRef},
        saga::plugin::{
            context::Level,
            postgres::{self, Column, Param, SqlError},
            sagas::{self, Status},
            types::{Header, Refusal},
        },
    },
    context::Context,
    effects::{Effects, NewSaga, Outgoing, Timer, Transition},
    fold::{self, Fold},
    host::Host,
    input::{Delivery, Input, Request, Source},
    saga::Saga,
    uuid::Uuid,
};

/// The time of every unit in tests: 2026-11-22T19:28:00.123Z.
pub const NOW_US: i64 = 1_795_375_680_123_000;

/// The statements and effects of a plugin.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Messages.
    pub messages: Vec<Outgoing>,
    /// Sagas to start.
    pub started: Vec<NewSaga>,
    /// Transitions of sagas.
    pub transitions: Vec<Transition>,
    /// Timers to set.
    pub timers: Vec<Timer>,
    /// Statements with their parameters.
    pub statements: Vec<(String, Vec<Param>)>,
}

impl Recorded {
    /// The topics of the messages, in order.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        self.messages.iter().map(|message| message.topic.as_str()).collect()
    }

    /// The values of the messages, in order.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        let text = |message: &Outgoing| {
            String::from_utf8_lossy(message.payload.as_deref().unwrap_or(b"")).into_owned()
        };
        self.messages.iter().map(text).collect()
    }
}

/// A host that answers from memory.
#[derive(Debug, Default)]
pub struct TestHost {
    /// The settings of `[config]`.
    pub config: BTreeMap<String, String>,
    answers: RefCell<VecDeque<Vec<Column>>>,
    recorded: RefCell<Recorded>,
    ids: RefCell<u128>,
}

impl TestHost {
    /// Adds the answer to one query, in order: columns as [`crate::db::many`] makes them. A query beyond the
    /// list gets an empty result.
    #[must_use]
    pub fn answer(self, columns: impl IntoIterator<Item = Param>) -> Self {
        let column = |param| if let Param::Many(column) = param { Some(column) } else { None };
        self.answers.borrow_mut().push_back(columns.into_iter().filter_map(column).collect());
        self
    }

    /// What the plugin asked for.
    #[must_use]
    pub fn recorded(self) -> Recorded {
        self.recorded.into_inner()
    }

    fn note(&self, sql: &str, params: &[Param]) {
        self.recorded.borrow_mut().statements.push((sql.to_owned(), params.to_vec()));
    }
}

impl Host for TestHost {
    fn now(&self) -> i64 {
        NOW_US
    }

    fn new_uuids(&self, count: u32) -> Vec<Uuid> {
        let mut last = self.ids.borrow_mut();
        let fresh = |_| {
            *last += 1;
            Uuid(0x0193_a1b2_c3d4_7000_8000 << 48 | *last)
        };
        (0..count).map(fresh).collect()
    }

    fn config(&self, name: &str) -> Option<String> {
        self.config.get(name).cloned()
    }

    fn log(&self, _: Level, _: Option<u32>, _: &str, _: &[(String, String)]) {}

    fn query(&self, sql: &str, params: &[Param]) -> Result<postgres::Table, SqlError> {
        self.note(sql, params);
        let columns = self.answers.borrow_mut().pop_front().unwrap_or_default();
        Ok(postgres::Table { rows: 0, names: Vec::new(), columns })
    }

    fn execute(&self, sql: &str, params: &[Param]) -> Result<u64, SqlError> {
        self.note(sql, params);
        Ok(0)
    }

    fn publish(&self, messages: &[Outgoing]) -> Result<(), Refusal> {
        self.recorded.borrow_mut().messages.extend_from_slice(messages);
        Ok(())
    }

    fn start(&self, started: &[NewSaga]) -> Result<(), Refusal> {
        self.recorded.borrow_mut().started.extend_from_slice(started);
        Ok(())
    }

    fn advance(&self, transitions: &[Transition]) -> Result<(), Refusal> {
        self.recorded.borrow_mut().transitions.extend_from_slice(transitions);
        Ok(())
    }

    fn schedule(&self, timers: &[Timer]) -> Result<(), Refusal> {
        self.recorded.borrow_mut().timers.extend_from_slice(timers);
        Ok(())
    }

    fn cancel(&self, _: &[String]) -> Result<(), Refusal> {
        Ok(())
    }
}

/// The result of [`fold`].
pub struct Folded<F: Fold> {
    /// The rows after all decisions.
    pub rows: F::Rows,
    /// The answers, in order.
    pub answers: Vec<<F::Input as Input>::Answer>,
    /// The effects.
    pub effects: Recorded,
}

/// Runs a batch's decisions on rows as if they had just been loaded.
pub fn fold<F: Fold>(rows: impl Into<F::Rows>, inputs: impl IntoIterator<Item = F::Input>) -> Folded<F> {
    let (host, mut rows) = (TestHost::default(), rows.into());
    let inputs: Vec<_> = (0..).zip(inputs).collect();
    let context = Context::new(&host, 1);
    let mut effects = Effects::new(&context);
    let answers = inputs
        .iter()
        .map(|(place, input)| fold::decide::<F>(*place, &mut rows, input, &mut effects))
        .collect();
    let effects = Recorded {
        messages: effects.messages,
        started: effects.started,
        transitions: effects.transitions,
        timers: effects.timers,
        statements: Vec::new(),
    };
    Folded { rows, answers, effects }
}

/// A request with this JSON body.
#[must_use]
pub fn request(body: &str) -> Request {
    Request {
        id: "request".to_owned(),
        route: 0,
        params: Vec::new(),
        query: Vec::new(),
        headers: vec![Header { name: "content-type".to_owned(), value: b"application/json".to_vec() }],
        body: body.as_bytes().to_vec(),
    }
}

/// A record with this value.
#[must_use]
pub fn record(topic: &str, value: &str) -> Delivery {
    Delivery {
        id: format!("{topic}/0/0"),
        source: Source::Kafka(Position { topic: topic.to_owned(), partition: 0, offset: 0 }),
        correlation: None,
        saga: None,
        event_type: String::new(),
        key: None,
        headers: Vec::new(),
        payload: Some(value.as_bytes().to_vec()),
        timestamp: NOW_US,
        sequence: None,
        attempt: 1,
    }
}

/// A missed deadline of a saga, set by this revision.
#[must_use]
pub fn deadline<S: Saga>(key: &str, revision: u64) -> Delivery {
    let of = SagaRef { saga_type: S::TYPE.to_owned(), key: key.to_owned(), revision };
    Delivery { source: Source::Deadline(of), payload: None, ..record("", "") }
}

/// A live saga that was started 30 s ago.
#[must_use]
pub fn live<S: Saga>(key: &str, state: &str, data: &impl Serialize) -> sagas::Saga {
    sagas::Saga {
        saga_type: S::TYPE.to_owned(),
        key: key.to_owned(),
        revision: 1,
        state: state.to_owned(),
        data: serde_json::to_string(data).expect("data with a JSON"),
        status: Status::Until(NOW_US),
        started_at: NOW_US - 30_000_000,
    }
}
