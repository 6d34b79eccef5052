//! Whose fault it is when a unit fails, and what its lane does next.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::sqlstate::{Cause, Statement, Unclear};

/// Why a unit was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Postgres or the network: the same unit runs again; no delivery is blamed.
    #[error("{0}")]
    Environment(String),
    /// Another host has acquired this lane's lease: the lane acquires a new one.
    #[error("another host has acquired the lease of this lane")]
    LaneLost,
    /// Another host has claimed partitions that the unit reads: the unit runs again without their deliveries.
    #[error("another host has claimed partitions of this unit")]
    PartitionsLost,
    /// These deliveries or requests, by their place in the call, must be taken out.
    #[error("{} of the batch cannot be handled", .0.len())]
    Culprits(Vec<Culprit>),
    /// One delivery or request of the batch is to blame, but it is unknown which: the batch is halved.
    #[error("{0}")]
    Guest(String),
    /// A statement of the guest failed as the environment, or the guest itself, can make it fail: its lane
    /// weighs what else it sees.
    #[error("{0}")]
    Suspect(Suspicion),
    /// A saga is pinned to the version of this digest, which must be loaded first.
    #[error("version {0} of a saga in flight is not loaded")]
    VersionNotLoaded(String),
    /// COMMIT had no answer, and the database does not know either: the caller must repeat the request.
    #[error("it is unknown whether the unit was committed")]
    Unknown,
}

/// A failure of which it is unclear whether the environment or the guest has caused it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Suspicion {
    /// What failed.
    pub kind: Unclear,
    /// What Postgres reported.
    pub reason: String,
}

/// One delivery or request that must not be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its place in the call.
    pub cause: usize,
    /// What is wrong with it.
    pub reason: String,
    /// How long it is parked.
    pub until: ParkedUntil,
}

/// What ends the parking of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedUntil {
    /// The pause that follows from its number of attempts: see [`retry_after_ms`].
    Backoff,
    /// This many milliseconds, unless its attempts are used up.
    RetryAfterMs(u32),
    /// This many milliseconds, without a limit on attempts: the version that must handle it cannot run here
    /// yet.
    VersionRetryMs(u32),
    /// The pause of [`suspect_retry_after_ms`], without a limit on attempts: the environment may be to blame,
    /// such as somebody who has locked a row.
    Suspected,
    /// A person redrives or discards it.
    Redriven,
}

impl Fault {
    /// The fault behind an error of a statement of the host's own, or of the connection.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        Self::of_statement(Statement::Host, error)
    }

    /// The fault behind an error. A conflict over a saga, which only `saga.flush` reports, is judged by
    /// [`crate::unit`].
    #[must_use]
    pub fn of_statement(by: Statement, error: &sqlx::Error) -> Self {
        let sqlstate = error.as_database_error().and_then(|error| error.code());
        let cause = by.cause(sqlstate.as_deref().unwrap_or_default(), ends_session(error));
        Self::of_cause(cause, with_sqlstate(sqlstate.as_deref(), error))
    }

    /// The fault of this cause.
    #[must_use]
    pub fn of_cause(cause: Cause, reason: String) -> Self {
        match cause {
            Cause::Environment => Self::Environment(reason),
            Cause::LaneLost => Self::LaneLost,
            Cause::Guest => Self::Guest(reason),
            Cause::Unclear(kind) => Self::Suspect(Suspicion { kind, reason }),
        }
    }
}

/// Whether the connection is lost, or Postgres has closed it. A guest can raise any SQLSTATE, but only with
/// the severity ERROR.
#[must_use]
pub fn ends_session(error: &sqlx::Error) -> bool {
    let reported = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    reported.is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

fn with_sqlstate(sqlstate: Option<&str>, error: &sqlx::Error) -> String {
    match sqlstate {
        Some(sqlstate) => format!("{error} (SQLSTATE {sqlstate})"),
        None => error.to_string(),
    }
}

/// Milliseconds before the next attempt: 1 s, doubling up to 5 minutes; none after `attempts_max`.
#[must_use]
pub fn retry_after_ms(attempt: u32, attempts_max: u32) -> Option<i64> {
    (attempt < attempts_max).then(|| doubled_ms(attempt, 300_000))
}

/// 1 s after the first attempt, doubled by each further one.
fn doubled_ms(attempt: u32, ms_max: i64) -> i64 {
    (1_000_i64 << attempt.saturating_sub(1).min(16)).min(ms_max)
}

/// Milliseconds before the next attempt of a suspect: 1 s, doubling up to 30 s. It tries for as long as it
/// takes, so it tries often enough to go on soon after a lock is released.
#[must_use]
pub fn suspect_retry_after_ms(attempt: u32) -> i64 {
    doubled_ms(attempt, 30_000)
}

#[cfg(test)]
mod tests {
    use super::{Fault, retry_after_ms, suspect_retry_after_ms};

    #[test]
    fn an_error_of_the_connection_is_the_environments_fault() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(Fault::of(&lost), Fault::Environment(_)));
    }

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<_> = (1..=4).map(|attempt| retry_after_ms(attempt, 4)).collect();
        assert_eq!(pauses, [Some(1_000), Some(2_000), Some(4_000), None]);
        assert_eq!(retry_after_ms(12, 20), Some(300_000));
        assert_eq!([1, 2, 5, 6, 1_000].map(suspect_retry_after_ms), [1_000, 2_000, 16_000, 30_000, 30_000]);
    }
}
