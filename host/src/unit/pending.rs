//! A write that waits for its lane.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::waiters::Wait;
use crate::model::{
    manifest::RouteName,
    request::{Request, Response},
    trace::Trace,
};

/// A request in the HTTP lane's queue.
#[derive(Debug)]
pub struct Pending {
    /// What the plugin gets. `request.route` is set by the lane, from `route` and the version that runs.
    pub request: Request,
    /// The route that was asked for; see [`crate::model::manifest::route_index`].
    pub route: Arc<RouteName>,
    /// The trace that it continues.
    pub trace: Trace,
    /// Of its `Idempotency-Key` header.
    pub idempotency: Option<Idempotency>,
    /// Whether the caller waits for the end of the saga (`Prefer: wait`): then the lane asks
    /// [`super::waiters::Waiters::wait`] between the commit and the relay.
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
    /// Its key was used for another request.
    KeyReused,
    /// The plugin fails on it and nothing was written; why, for the log alone.
    Failed(String),
    /// It cannot be told whether it was committed: to be repeated with the same id.
    Unknown,
}

impl Pending {
    /// Bytes that it occupies in a queue, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        let request = &self.request;
        512 + request.body.len()
            + request.headers.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
            + request.query.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>()
    }
}
