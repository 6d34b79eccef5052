//! The input and the result of one call of a plugin, apart from the batch.

use crate::{
    model::{effects::Effects, fault::Fault},
    store::session::Session,
};

/// What the host fixes for one call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// `IDENTITY:slot:epoch:unit`. Logs show it, and ids and random numbers derive from it.
    pub unit: String,
    /// The guest's clock in microseconds since 1970, the same during the whole unit.
    pub now_us: i64,
    /// True for a `GET`: the transaction is read-only, and the host refuses effects.
    pub read_only: bool,
}

/// The result of one call, and what the call leaves behind.
#[derive(Debug)]
pub struct CallResult<T> {
    /// None when the call was cancelled inside a statement: then its connection is closed.
    pub session: Option<Session>,
    /// The effects that the guest requested. `cause` counts within the call.
    pub effects: Effects,
    /// SQL statements that the guest ran.
    pub statements: u32,
    /// One answer for each delivery or request, in order, or why there are none.
    pub result: Result<T, Fault>,
}
