//! Waits for Postgres when the host starts. An outage does not end the host: the service routes answer 503, and
//! the plugins start when it is over.

use std::time::Duration;

use anyhow::Context;

use crate::{
    rollout::services::Services,
    store::{Server, Unsuitable},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The pause before the next attempt; it doubles after each.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Returns when Postgres answers.
///
/// # Errors
/// Postgres answers and refuses the account or the database, it is unsuitable, or the address cannot be used:
/// waiting does not help.
pub(super) async fn wait(server: &Server, services: &Services) -> anyhow::Result<()> {
    let (mut pause, mut is_waiting) = (RETRY_PAUSE_MIN, false);
    loop {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, server.check()).await;
        let late = || format!("Postgres does not answer in {} s", CONNECT_WITHIN.as_secs());
        let error = match connecting.with_context(late).flatten() {
            Ok(()) => {
                if is_waiting {
                    tracing::info!("Postgres answers, starting the plugins");
                }
                return Ok(());
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        services.starts_after(format!("waiting for Postgres: {error}"));
        if !std::mem::replace(&mut is_waiting, true) {
            tracing::error!(
                reason = error,
                "waiting for Postgres; the service routes answer 503 until it answers"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

/// Whether only the operator can help.
fn is_final(error: &anyhow::Error) -> bool {
    if error.is::<Unsuitable>() {
        return true;
    }
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(error)) => {
            // Invalid authorization, unknown database.
            error.code().is_some_and(|code| code.starts_with("28") || code == "3D000")
        }
        Some(sqlx::Error::Configuration(_) | sqlx::Error::Tls(_)) => true,
        _ => false,
    }
}
