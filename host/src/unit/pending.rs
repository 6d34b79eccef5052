//! An HTTP write in the queue of its lane.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::waiters::Wait;
use crate::model::{
    manifest::RouteName,
    request::{Request, Response},
    trace::Trace,
};

/// A request in the queue of the HTTP lane.
#[derive(Debug)]
pub struct Pending {
    /// The request as the plugin gets it. The lane sets `request.route` from `route` and the active version.
    pub request: Request,
    /// The route of the request; see [`crate::model::manifest::route_index`].
    pub route: Arc<RouteName>,
    /// The trace that the request continues.
    pub trace: Trace,
    /// From the `Idempotency-Key` header.
    pub idempotency: Option<Idempotency>,
    /// Whether the caller waits for the end of the saga (`Prefer: wait`). Then the unit registers the caller
    /// with [`super::waiters::Waiters::wait`] after the commit, before the relay gets the unit.
    pub waits: bool,
    /// Receives the answer after the commit. It is closed when the caller has gone.
    pub reply: oneshot::Sender<Answer>,
}

/// An `Idempotency-Key`, and a digest of the request that it was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// As the caller sent it.
    pub key: String,
    /// A format byte, and the SHA-256 of method, path, query and the value of the body.
    pub hash: Vec<u8>,
    /// SHA-256 of method, path, query and the bytes of the body: what earlier releases have stored.
    pub hash_of_bytes: Vec<u8>,
}

impl Idempotency {
    /// Whether a stored digest is of this request.
    #[must_use]
    pub fn is_of(&self, stored: &[u8]) -> bool {
        stored == self.hash || stored == self.hash_of_bytes
    }
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Answer {
    /// Committed, or refused by the plugin (4xx). With a [`Wait`], the caller waits for the end of the saga
    /// first.
    Response(Response, Option<Wait>),
    /// Its idempotency key was used for another request.
    KeyReused,
    /// It cannot be handled now, and nothing was written: the caller may repeat it. The reason goes only into
    /// the log.
    NotNow(String),
    /// The plugin fails on it, and nothing was written. The reason goes only into the log.
    Failed(String),
    /// It is unknown whether it was committed: the caller must repeat it with the same id.
    Unknown,
}

impl Pending {
    /// Approximate bytes that it occupies in a queue.
    #[must_use]
    pub fn size(&self) -> usize {
        let request = &self.request;
        512 + request.body.len()
            + request.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
            + request.query.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>()
    }
}
