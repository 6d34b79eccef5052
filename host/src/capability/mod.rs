//! What a guest imports: SQL in its unit's transaction, messages, sagas, timers, context. All but SQL is
//! buffered as [`crate::model::effects`]. Nothing here commits.

pub(crate) mod context;
pub(crate) mod guest;
mod kafka;
mod output;
pub mod postgres;
mod random;
mod refusal;
mod sagas;
mod sql;
mod timers;
mod wasi;

use wasmtime::component::{HasSelf, Linker};

use crate::model::bindings::saga::plugin as interface;
pub use guest::Guest;

impl interface::types::Host for Guest {}

/// Links everything that a plugin may import. Its [`guest::Grant`] decides what it may do with that.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    interface::types::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    interface::postgres::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    interface::kafka::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    interface::sagas::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    interface::timers::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    interface::context::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}
