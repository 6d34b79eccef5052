//! An HTTP request and its answer, as a plugin sees them.

use serde::{Deserialize, Serialize};

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
