//! What passes between a lane and a plugin in one call: the values of `wit/`, without the bindings.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{capability::effects::Effects, unit::fault::Fault};

/// What became of one delivery. All but [`Outcome::Done`] promise that nothing was written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled.
    Done,
    /// Late, unknown or contradicting: recorded with this reason.
    Ignored(String),
    /// Not now: it and its key wait.
    Retry {
        /// How long, at least.
        after_ms: u32,
        /// Why.
        reason: String,
    },
    /// Held for a person, with this reason.
    Reject(String),
}

/// An HTTP request, as a plugin sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Unique; causation id of what it leads to.
    pub id: String,
    /// Index into the routes of the manifest.
    pub route: u32,
    /// Values of the path's `{names}`, decoded, in order.
    pub params: Vec<String>,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A plugin's answer. Serialized when it is kept for an Idempotency-Key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
    /// The saga (type, key) that a caller with `Prefer: wait` waits for.
    pub saga: Option<(String, String)>,
}

/// A connection that is inside a unit's transaction, under the plugin's role.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub connection: PgConnection,
}

/// What the host fixes for one call.
#[derive(Clone, Debug)]
pub struct CallSetting {
    /// `database:slot:epoch:unit`, for logs; also what ids and random numbers derive from.
    pub unit: String,
    /// The guest's clock, microseconds since 1970; the same during the whole unit.
    pub now_us: i64,
    /// True for a `GET`: the transaction is read-only and effects are refused.
    pub read_only: bool,
}

/// What came of one call.
#[derive(Debug)]
pub struct Called<T> {
    /// None when the call was cut off inside a statement: the connection is closed.
    pub session: Option<Session>,
    /// What the guest asked for, `cause` counting within the call.
    pub effects: Effects,
    /// SQL statements that it ran.
    pub statements: u32,
    /// Its answers, one for each delivery or request, in order; or why there are none.
    pub result: Result<T, Fault>,
}
