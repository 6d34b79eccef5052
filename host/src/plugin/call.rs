//! What passes between a lane and a plugin in one call: the values of `wit/`, without the bindings.

use crate::{
    model::{effects::Effects, fault::Fault},
    store::session::Session,
};

/// What the host fixes for one call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// `database:slot:epoch:unit`, for logs; also what ids and random numbers derive from.
    pub unit: String,
    /// The guest's clock, microseconds since 1970; the same during the whole unit.
    pub now_us: i64,
    /// True for a `GET`: the transaction is read-only and effects are refused.
    pub read_only: bool,
}

/// What came of one call.
#[derive(Debug)]
pub struct CallResult<T> {
    /// None when the call was cut off inside a statement: the connection is closed.
    pub session: Option<Session>,
    /// What the guest asked for, `cause` counting within the call.
    pub effects: Effects,
    /// SQL statements that it ran.
    pub statements: u32,
    /// Its answers, one for each delivery or request, in order; or why there are none.
    pub result: Result<T, Fault>,
}
