//! What the tests share.
//!
//! ```text
//!  stack    Postgres and Kafka: one for all who can share it, or one of a test's own
//!  clear    empties a stack for the next test that has it
//!  host     saga-host processes on a stack
//!  folder   where data, logs and plugins are
//!  guest    a plugin that misbehaves on request
//!  wire     counts what a host sends to Postgres
//!  flow     orders that are sent again until they are accepted, and what must have become of them
//! ```

mod clear;
pub(crate) mod flow;
pub(crate) mod folder;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod stack;
pub(crate) mod wire;

use std::time::Duration;

use saga_testkit::report::Report;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

/// The limit of every wait of a test, long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// Address of the shared Postgres server, with an account that may do everything.
pub(crate) fn postgres_url() -> String {
    stack::shared().postgres.clone()
}

/// A connection of that account.
pub(crate) async fn postgres() -> PgConnection {
    postgres_url().parse::<PgConnectOptions>().unwrap().disable_statement_logging().connect().await.unwrap()
}

/// Repeats a check until it holds.
pub(crate) async fn eventually<T>(look: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    saga_testkit::quiet::eventually(SOON, look).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Runs the asynchronous clean-up of a drop guard to its end, on a thread of its own: the test's runtime is
/// busy with the drop. Panics of it count only when the test has not failed already.
pub(crate) fn clean_up(work: impl Future<Output = ()> + Send + 'static) {
    let cleaned = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    });
    assert!(cleaned.join().is_ok() || std::thread::panicking(), "the clean-up failed; see the panic above");
}

/// Every check of the report must have held.
pub(crate) fn all_hold(report: &Report) {
    let failed: Vec<String> = report
        .failed()
        .map(|check| format!("{}: {}: {}", check.area, check.name, check.failure.clone().unwrap_or_default()))
        .collect();
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), report.made(), failed.join("\n"));
    assert!(report.made() > 0, "no check was made");
}
