//! The problems with which a valid request can end. None of them shows a caller the content of a database, a
//! statement or a log.

use axum::http::StatusCode;

use super::not_running::Cause;
use crate::{model::trace::Trace, problem::Problem};

/// `type` of the only problem after which a write may have been committed.
pub(super) const OUTCOME_UNKNOWN: &str = "urn:saga-host:problem:outcome-unknown";

const RETRY_AFTER_S: u32 = 1;

fn unavailable(title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, title, detail).retry_after(RETRY_AFTER_S)
}

/// Too many requests are waiting.
#[must_use]
pub(super) fn busy(what: &str) -> Problem {
    unavailable("Busy", format!("too many {what} are waiting; nothing was done, try again"))
}

/// Postgres is unreachable.
#[must_use]
pub(super) fn unreachable() -> Problem {
    unavailable("Unavailable", "the service cannot reach its database; try again")
}

/// The host is starting and does not know all routes yet.
#[must_use]
pub(super) fn starting() -> Problem {
    unavailable("Starting", "this host is starting; nothing was done, try again")
}

/// The plugin of the route does not run on this host.
#[must_use]
pub(super) fn not_running(plugin: &str, cause: Cause) -> Problem {
    let reason = cause.for_callers();
    unavailable("Not running", format!("{plugin} does not run: {reason}. Nothing was done"))
        .with("plugin", plugin)
}

/// The request meets something that may be over soon, such as a row that somebody has locked.
#[must_use]
pub(super) fn not_now() -> Problem {
    unavailable("Unavailable", "the service cannot do this now; nothing was done, try again")
}

/// Another host has activated a version that this one cannot run.
#[must_use]
pub(super) fn suspended() -> Problem {
    unavailable(
        "Unavailable",
        "this host cannot run the active version of the service; another one can, try again",
    )
}

/// The host is stopping, or the lane has dropped the request. It may have been committed.
#[must_use]
pub(super) fn stopping() -> Problem {
    unavailable("Stopping", "this host is stopping; nothing is lost if it is sent again with the same id")
        .kind(OUTCOME_UNKNOWN)
}

/// It is unknown whether the unit was committed.
#[must_use]
pub(super) fn unknown_outcome() -> Problem {
    unavailable(
        "Outcome unknown",
        "whether this was done is not known yet; repeat it with the same id or Idempotency-Key",
    )
    .kind(OUTCOME_UNKNOWN)
}

/// The plugin fails on the request. The log has the reason, under the ids that the caller gets.
#[must_use]
pub(super) fn failed(request_id: &str, trace: &Trace) -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "The service failed",
        "the service failed on this request; nothing was done. The log has the reason under requestId",
    )
    .with("requestId", request_id)
    .with("traceId", trace.id())
}

/// An `Idempotency-Key` that was used for another request.
#[must_use]
pub(super) fn key_reused() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "Idempotency-Key in use",
        "this Idempotency-Key was sent before with another method, path, query or body",
    )
    .with("header", "Idempotency-Key")
}
