//! An HTTP request and its response, as a plugin sees them.

use serde::{Deserialize, Serialize};

/// An HTTP request, as a plugin sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Unique id. It is the causation id of the effects.
    pub id: String,
    /// Index of the route in the manifest.
    pub route: u32,
    /// Decoded values of the path's `{names}`, in order.
    pub params: Vec<String>,
    /// Decoded query parameters (name, value), in order.
    pub query: Vec<(String, String)>,
    /// (name, value), names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A plugin's response. It is serialized when it is stored for an idempotency key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// (name, value), names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
    /// The saga (type, key) whose end a caller with `Prefer: wait` waits for.
    pub saga: Option<(String, String)>,
}
