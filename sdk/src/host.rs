//! Everything that a plugin can ask of its host, as one trait: [`Wasm`] in a component, and a stand-in in
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

/// A host. Its functions are those of `wit/`, which documents them.
pub trait Host {
    /// `context.now`: microseconds since 1970.
    fn now(&self) -> i64;
    /// `context.new-uuids`.
    fn new_uuids(&self, count: u32) -> Vec<Uuid>;
    /// `context.config`.
    fn config(&self, name: &str) -> Option<String>;
    /// `context.log`.
    fn log(&self, level: Level, cause: Option<u32>, message: &str, fields: &[(String, String)]);
    /// `postgres.query`.
    ///
    /// # Errors
    /// What Postgres reports.
    fn query(&self, sql: &str, params: &[Param]) -> Result<postgres::Table, SqlError>;
    /// `postgres.execute`.
    ///
    /// # Errors
    /// What Postgres reports.
    fn execute(&self, sql: &str, params: &[Param]) -> Result<u64, SqlError>;
    /// `kafka.publish`.
    ///
    /// # Errors
    /// The host's refusal.
    fn publish(&self, messages: &[Outgoing]) -> Result<(), Refusal>;
    /// `sagas.start`.
    ///
    /// # Errors
    /// The host's refusal.
    fn start(&self, sagas: &[NewSaga]) -> Result<(), Refusal>;
    /// `sagas.advance`.
    ///
    /// # Errors
    /// The host's refusal.
    fn advance(&self, transitions: &[Transition]) -> Result<(), Refusal>;
    /// `timers.schedule`.
    ///
    /// # Errors
    /// The host's refusal.
    fn schedule(&self, timers: &[Timer]) -> Result<(), Refusal>;
    /// `timers.cancel`.
    ///
    /// # Errors
    /// The host's refusal.
    fn cancel(&self, names: &[String]) -> Result<(), Refusal>;
}

/// The host that runs this component.
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
