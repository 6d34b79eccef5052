//! The service routes: takes HTTP requests, and answers with the plugin's response or with problem details.
//!
//! ```text
//! handler ─▶ router ─▶ body ─┬─▶ write ─▶ pending (lane) ─▶ waiters ─▶ answer
//!                            └─▶ readers ──────────────────────────▶ answer
//! ```

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod handler;
mod idempotency;
mod json_value;
pub mod not_running;
mod outcome;
mod prefer;
pub mod readers;
pub mod route_table;
pub mod router;
mod translate;
mod write;

use std::{convert::Infallible, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    body::Body,
    handler::Handler,
    http::{Request, Response},
};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use self::{handler::Ingress, route_table::RouteTable};

/// Answers the service routes. `body_within` is how soon the body of a request must have arrived. After
/// `stop`, callers no longer wait for the end of a saga.
pub fn service(
    routes: Arc<ArcSwap<RouteTable>>,
    body_within: Duration,
    stop: CancellationToken,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    let ingress = Arc::new(Ingress { routes, body_within, stop });
    TowerToHyperService::new(handler::handle.with_state(ingress))
}
