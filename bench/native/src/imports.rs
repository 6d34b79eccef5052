//! What a plugin imports, on the host's own capabilities.

use std::{cell::RefCell, panic::resume_unwind};

use futures::FutureExt;
use saga_host::{
    capability::Guest,
    model::bindings::saga::plugin::{context, kafka, postgres, sagas, timers},
};
use saga_plugin::{Uuid, bindings::saga::plugin as sdk, host::Host};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::{crossing::Crossings, lift, lower};

/// One call's guest. Imports that trap in a component unwind here.
pub(crate) struct Imports<'a> {
    guest: RefCell<&'a mut Guest>,
    crossings: &'a Crossings,
    runtime: Handle,
}

impl<'a> Imports<'a> {
    /// On a thread of the runtime, which SQL blocks.
    pub(crate) fn new(guest: &'a mut Guest, crossings: &'a Crossings) -> Self {
        Self { guest: RefCell::new(guest), crossings, runtime: Handle::current() }
    }

    /// What waits for Postgres.
    fn wait<A: Serialize, T: Serialize>(
        &self,
        asked: A,
        import: impl AsyncFnOnce(&mut Guest, A) -> wasmtime::Result<T>,
    ) -> T {
        let guest = &mut **self.guest.borrow_mut();
        self.crossings.handed_out(&asked);
        self.given(self.runtime.block_on(import(guest, asked)))
    }

    /// What is only written down.
    fn buffer<A: Serialize, T: Serialize>(
        &self,
        asked: A,
        import: impl AsyncFnOnce(&mut Guest, A) -> wasmtime::Result<T>,
    ) -> T {
        let guest = &mut **self.guest.borrow_mut();
        self.crossings.handed_out(&asked);
        let returned = import(guest, asked).now_or_never();
        self.given(returned.unwrap_or_else(|| Err(wasmtime::Error::msg("an import waits"))))
    }

    fn given<T: Serialize>(&self, returned: wasmtime::Result<T>) -> T {
        let given = or_trap(returned);
        self.crossings.handed_in(&given);
        given
    }
}

fn or_trap<T>(returned: wasmtime::Result<T>) -> T {
    returned.unwrap_or_else(|error| resume_unwind(Box::new(error)))
}

impl Host for Imports<'_> {
    fn now(&self) -> i64 {
        self.buffer((), async |guest, ()| context::Host::now(guest).await)
    }

    fn new_uuids(&self, count: u32) -> Vec<Uuid> {
        let ids = self.buffer(count, async |guest, count| context::Host::new_uuids(guest, count).await);
        ids.into_iter().map(|id| Uuid::from(lower::uuid(id))).collect()
    }

    fn config(&self, name: &str) -> Option<String> {
        self.buffer(name.to_owned(), async |guest, name| context::Host::config(guest, name).await)
    }

    fn log(
        &self,
        level: sdk::context::Level,
        cause: Option<u32>,
        message: &str,
        fields: &[(String, String)],
    ) {
        let asked = (lift::level(level), cause, message.to_owned(), fields.to_vec());
        self.buffer(asked, async |guest, (level, cause, message, fields)| {
            context::Host::log(guest, level, cause, message, fields).await
        });
    }

    fn query(
        &self,
        sql: &str,
        params: &[sdk::postgres::Param],
    ) -> Result<sdk::postgres::Table, sdk::postgres::SqlError> {
        let asked = (sql.to_owned(), params.iter().map(lift::param).collect());
        let answer =
            self.wait(asked, async |guest, (sql, params)| postgres::Host::query(guest, sql, params).await);
        answer.map(lower::table).map_err(lower::sql_error)
    }

    fn execute(&self, sql: &str, params: &[sdk::postgres::Param]) -> Result<u64, sdk::postgres::SqlError> {
        let asked = (sql.to_owned(), params.iter().map(lift::param).collect());
        let answer =
            self.wait(asked, async |guest, (sql, params)| postgres::Host::execute(guest, sql, params).await);
        answer.map_err(lower::sql_error)
    }

    fn publish(&self, messages: &[sdk::kafka::Outgoing]) -> Result<(), sdk::types::Refusal> {
        let asked: Vec<_> = messages.iter().map(lift::outgoing).collect();
        self.buffer(asked, async |guest, asked| kafka::Host::publish(guest, asked).await)
            .map_err(lower::refusal)
    }

    fn start(&self, started: &[sdk::sagas::NewSaga]) -> Result<(), sdk::types::Refusal> {
        let asked: Vec<_> = started.iter().map(lift::new_saga).collect();
        self.buffer(asked, async |guest, asked| sagas::Host::start(guest, asked).await)
            .map_err(lower::refusal)
    }

    fn advance(&self, transitions: &[sdk::sagas::Transition]) -> Result<(), sdk::types::Refusal> {
        let asked: Vec<_> = transitions.iter().map(lift::transition).collect();
        self.buffer(asked, async |guest, asked| sagas::Host::advance(guest, asked).await)
            .map_err(lower::refusal)
    }

    fn schedule(&self, timers: &[sdk::timers::Timer]) -> Result<(), sdk::types::Refusal> {
        let asked: Vec<_> = timers.iter().map(lift::timer).collect();
        self.buffer(asked, async |guest, asked| timers::Host::schedule(guest, asked).await)
            .map_err(lower::refusal)
    }

    fn cancel(&self, names: &[String]) -> Result<(), sdk::types::Refusal> {
        let asked = names.to_vec();
        self.buffer(asked, async |guest, asked| timers::Host::cancel(guest, asked).await)
            .map_err(lower::refusal)
    }
}
