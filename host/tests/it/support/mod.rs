//! What the tests share.
//!
//! ```text
//!  stack    Postgres and Kafka: one stack that tests share, or one for a single test
//!  administrator  lets accounts log in with passwords only, and runs the SQL that the host prints
//!  clear    empties a stack for the next test that uses it
//!  host     saga-host processes on a stack
//!  gate     a way to Postgres or Kafka that a test opens and closes
//!  folder   where data, logs and plugins are
//!  guest    a plugin that misbehaves on request
//!  trip     two plugins with a saga of two steps
//!  database a connection to a database of a stack
//!  topics   topics with settings of their own
//!  kafka_proxy  a connection to Kafka that can be cut
//!  raw      writes records that other clients can write, and rdkafka's safe interface cannot
//!  wire     counts what a host sends to Postgres
//!  flow     orders that are sent again until they are accepted, and their expected ends
//! ```

pub(crate) mod administrator;
mod clear;
pub(crate) mod database;
pub(crate) mod flow;
pub(crate) mod folder;
pub(crate) mod gate;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod kafka_proxy;
pub(crate) mod raw;
pub(crate) mod stack;
pub(crate) mod topics;
pub(crate) mod trip;
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
pub(crate) async fn eventually<T>(check: impl AsyncFnMut() -> anyhow::Result<T>) -> T {
    saga_testkit::quiet::eventually(SOON, check).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Runs the asynchronous clean-up of a drop guard to its end, on a thread of its own, since the test's
/// runtime is busy with the drop. Panics in it count only when the test has not failed already.
pub(crate) fn clean_up(work: impl Future<Output = ()> + Send + 'static) {
    let cleaned = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    });
    assert!(cleaned.join().is_ok() || std::thread::panicking(), "the clean-up failed; see the panic above");
}

/// Asserts that every check of the report has passed.
pub(crate) fn all_hold(report: &Report) {
    let failed: Vec<String> = report
        .failed()
        .map(|check| format!("{}: {}: {}", check.area, check.name, check.failure.clone().unwrap_or_default()))
        .collect();
    assert!(failed.is_empty(), "{} of {} checks failed:\n{}", failed.len(), report.made(), failed.join("\n"));
    assert!(report.made() > 0, "no check was made");
}
