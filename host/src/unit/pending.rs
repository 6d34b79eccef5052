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
    /// What the plugin gets. The lane sets `request.route` from `route` and the active version.
    pub request: Request,
    /// The route of the request; see [`crate::model::manifest::route_index`].
    pub route: Arc<RouteName>,
    /// The trace that it continues.
    pub trace: Trace,
    /// Of its `Idempotency-Key` header.
    pub idempotency: Option<Idempotency>,
    /// Whether the caller waits for the end of the saga (`Prefer: wait`): then the unit registers it with
    /// [`super::waiters::Waiters::wait`] after the commit, before the relay learns of the unit.
    pub waits: bool,
    /// Where the answer goes, after the commit; dropped when the caller has gone.
    pub reply: oneshot::Sender<Answer>,
}

/// An `Idempotency-Key` and what it was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// As the caller sent it.
    pub key: String,
    /// SHA-256 of method, path, query and body.
    pub hash: Vec<u8>,
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// Committed, or refused by the plugin (4xx); and what to wait for before it is sent.
    Response(Response, Option<Wait>),
    /// Its idempotency key was used for another request.
    KeyReused,
    /// The plugin fails on it, and nothing was written. The reason is for the log only.
    Failed(String),
    /// Nobody knows whether it was committed: the caller must repeat it with the same id.
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
