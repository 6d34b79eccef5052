//! Everything that a plugin can ask of its host, as one trait: the real host in a component, a stand-in in
//! native tests.

use crate::bindings::saga::plugin::{
    context::{self, Level},
    kafka::{self, Outgoing},
    postgres::{self, Param, SqlError},
    sagas::{self, NewSaga, Transition},
    timers::{self, Timer},
    types::Refusal,
};
use crate::uuid::Uuid;

/// A host. Its functions are those of `wit/`, described there.
pub trait Host {
    /// The unit's instant, microseconds since 1970.
    fn now(&self) -> i64;
    /// Fresh ids, ascending.
    fn new_uuids(&self, count: u32) -> Vec<Uuid>;
    /// A value of `[config]`.
    fn config(&self, name: &str) -> Option<String>;
    /// Writes a log line.
    fn log(&self, level: Level, cause: Option<u32>, message: &str, fields: &[(String, String)]);
    /// Runs a statement that returns rows.
    ///
    /// # Errors
    /// As Postgres reports.
    fn query(&self, sql: &str, params: &[Param]) -> Result<postgres::Table, SqlError>;
    /// Runs a statement for its effect.
    ///
    /// # Errors
    /// As Postgres reports.
    fn execute(&self, sql: &str, params: &[Param]) -> Result<u64, SqlError>;
    /// Hands over messages.
    ///
    /// # Errors
    /// The host refuses one.
    fn publish(&self, messages: &[Outgoing]) -> Result<(), Refusal>;
    /// Hands over sagas to start.
    ///
    /// # Errors
    /// The host refuses one.
    fn start(&self, sagas: &[NewSaga]) -> Result<(), Refusal>;
    /// Hands over transitions.
    ///
    /// # Errors
    /// The host refuses one.
    fn advance(&self, transitions: &[Transition]) -> Result<(), Refusal>;
    /// Hands over timers to set.
    ///
    /// # Errors
    /// The host refuses one.
    fn schedule(&self, timers: &[Timer]) -> Result<(), Refusal>;
    /// Takes timers back.
    ///
    /// # Errors
    /// The host refuses one.
    fn cancel(&self, names: &[String]) -> Result<(), Refusal>;
}

/// The host around a component.
#[derive(Clone, Copy, Debug)]
pub struct Wasm;

impl Host for Wasm {
    fn now(&self) -> i64 {
        context::now()
    }

    fn new_uuids(&self, count: u32) -> Vec<Uuid> {
        context::new_uuids(count).into_iter().map(Uuid::from).collect()
    }

    fn config(&self, name: &str) -> Option<String> {
        context::config(name)
    }

    fn log(&self, level: Level, cause: Option<u32>, message: &str, fields: &[(String, String)]) {
        context::log(level, cause, message, fields);
    }

    fn query(&self, sql: &str, params: &[Param]) -> Result<postgres::Table, SqlError> {
        postgres::query(sql, params)
    }

    fn execute(&self, sql: &str, params: &[Param]) -> Result<u64, SqlError> {
        postgres::execute(sql, params)
    }

    fn publish(&self, messages: &[Outgoing]) -> Result<(), Refusal> {
        kafka::publish(messages)
    }

    fn start(&self, sagas: &[NewSaga]) -> Result<(), Refusal> {
        sagas::start(sagas)
    }

    fn advance(&self, transitions: &[Transition]) -> Result<(), Refusal> {
        sagas::advance(transitions)
    }

    fn schedule(&self, timers: &[Timer]) -> Result<(), Refusal> {
        timers::schedule(timers)
    }

    fn cancel(&self, names: &[String]) -> Result<(), Refusal> {
        timers::cancel(names)
    }
}
