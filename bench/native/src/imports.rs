//! What a plugin imports, on the host's own capabilities.

use std::{cell::RefCell, panic::resume_unwind};

use futures::FutureExt;
use saga_host::{
    capability::Guest,
    plugin::bindings::saga::plugin::{context, kafka, postgres, sagas, timers},
};
use saga_plugin::{Uuid, bindings::saga::plugin as sdk, host::Host};
use tokio::runtime::Handle;

use crate::{lift, lower};

/// One call's guest. Imports that trap in a component unwind here.
pub(crate) struct Imports<'a> {
    guest: RefCell<&'a mut Guest>,
    runtime: Handle,
}

impl<'a> Imports<'a> {
    /// On a thread of the runtime, which SQL blocks.
    pub(crate) fn new(guest: &'a mut Guest) -> Self {
        Self { guest: RefCell::new(guest), runtime: Handle::current() }
    }

    /// What waits for Postgres.
    fn wait<T>(&self, import: impl AsyncFnOnce(&mut Guest) -> wasmtime::Result<T>) -> T {
        let guest = &mut **self.guest.borrow_mut();
        or_trap(self.runtime.block_on(import(guest)))
    }

    /// What is only written down.
    fn buffer<T>(&self, import: impl AsyncFnOnce(&mut Guest) -> wasmtime::Result<T>) -> T {
        let guest = &mut **self.guest.borrow_mut();
        or_trap(import(guest).now_or_never().unwrap_or_else(|| Err(wasmtime::Error::msg("an import waits"))))
    }
}

fn or_trap<T>(returned: wasmtime::Result<T>) -> T {
    returned.unwrap_or_else(|error| resume_unwind(Box::new(error)))
}

impl Host for Imports<'_> {
    fn now(&self) -> i64 {
        self.buffer(async |guest| context::Host::now(guest).await)
    }

    fn new_uuids(&self, count: u32) -> Vec<Uuid> {
        let ids = self.buffer(async |guest| context::Host::new_uuids(guest, count).await);
        ids.into_iter().map(|id| Uuid::from(lower::uuid(id))).collect()
    }

    fn config(&self, name: &str) -> Option<String> {
        self.buffer(async |guest| context::Host::config(guest, name.to_owned()).await)
    }

    fn log(&self, level: sdk::context::Level, cause: Option<u32>, message: &str, fields: &[(String, String)]) {
        let (level, message, fields) = (lift::level(level), message.to_owned(), fields.to_vec());
        self.buffer(async |guest| context::Host::log(guest, level, cause, message, fields).await);
    }

    fn query(
        &self,
        sql: &str,
        params: &[sdk::postgres::Param],
    ) -> Result<sdk::postgres::Table, sdk::postgres::SqlError> {
        let (sql, params) = (sql.to_owned(), params.iter().map(lift::param).collect());
        let answer = self.wait(async |guest| postgres::Host::query(guest, sql, params).await);
        answer.map(lower::table).map_err(lower::sql_error)
    }

    fn execute(&self, sql: &str, params: &[sdk::postgres::Param]) -> Result<u64, sdk::postgres::SqlError> {
        let (sql, params) = (sql.to_owned(), params.iter().map(lift::param).collect());
        let answer = self.wait(async |guest| postgres::Host::execute(guest, sql, params).await);
        answer.map_err(lower::sql_error)
    }

    fn publish(&self, messages: &[sdk::kafka::Outgoing]) -> Result<(), sdk::types::Refusal> {
        let messages = messages.iter().map(lift::outgoing).collect();
        self.buffer(async |guest| kafka::Host::publish(guest, messages).await).map_err(lower::refusal)
    }

    fn begin(&self, begun: &[sdk::sagas::Beginning]) -> Result<(), sdk::types::Refusal> {
        let begun = begun.iter().map(lift::beginning).collect();
        self.buffer(async |guest| sagas::Host::begin(guest, begun).await).map_err(lower::refusal)
    }

    fn advance(&self, transitions: &[sdk::sagas::Transition]) -> Result<(), sdk::types::Refusal> {
        let transitions = transitions.iter().map(lift::transition).collect();
        self.buffer(async |guest| sagas::Host::advance(guest, transitions).await).map_err(lower::refusal)
    }

    fn schedule(&self, timers: &[sdk::timers::Timer]) -> Result<(), sdk::types::Refusal> {
        let timers = timers.iter().map(lift::timer).collect();
        self.buffer(async |guest| timers::Host::schedule(guest, timers).await).map_err(lower::refusal)
    }

    fn cancel(&self, names: &[String]) -> Result<(), sdk::types::Refusal> {
        let names = names.to_vec();
        self.buffer(async |guest| timers::Host::cancel(guest, names).await).map_err(lower::refusal)
    }
}
