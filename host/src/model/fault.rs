//! Whose fault it is when a unit fails, and what its lane does next.

use super::sqlstate::{LANE_LOST, NOT_LEASE_HOLDER};

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
    /// A saga is pinned to the version of this digest, which must be loaded first.
    #[error("version {0} of a saga in flight is not loaded")]
    VersionNotLoaded(String),
    /// COMMIT had no answer, and the database does not know either: the caller must repeat the request.
    #[error("it is unknown whether the unit was committed")]
    Unknown,
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
    /// A person redrives or discards it.
    Redriven,
}

impl Fault {
    /// The fault behind an error of a statement of the host's own, or of the connection. A guest's statements
    /// are judged where they run.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) => Self::of_sqlstate(&code, error.to_string()),
            None => Self::Environment(error.to_string()),
        }
    }

    /// A conflict over a saga, which only `saga.flush` reports, is judged by [`crate::unit`].
    fn of_sqlstate(sqlstate: &str, message: String) -> Self {
        match sqlstate {
            LANE_LOST | NOT_LEASE_HOLDER => Self::LaneLost,
            _ if is_environment(sqlstate) || is_environment_of_host(sqlstate) => Self::Environment(message),
            _ => Self::Guest(message),
        }
    }
}

/// SQLSTATEs that a statement of the host does not cause: it took too long and was cancelled, or the server
/// is read-only, as after a failover. A guest can cause both with its own statements.
fn is_environment_of_host(sqlstate: &str) -> bool {
    ["57014", "25006"].contains(&sqlstate)
}

/// SQLSTATEs that the environment causes: connection (08), resources (53), operator (57P),
/// serialization, deadlock, lock time-out.
#[must_use]
pub fn is_environment(sqlstate: &str) -> bool {
    ["08", "53", "57P"].iter().any(|class| sqlstate.starts_with(class))
        || ["40001", "40P01", "55P03", "25P03"].contains(&sqlstate)
}

/// Milliseconds before the next attempt: 1 s, doubling up to 5 minutes; none after `attempts_max`.
#[must_use]
pub fn retry_after_ms(attempt: u32, attempts_max: u32) -> Option<i64> {
    (attempt < attempts_max).then(|| (1_000_i64 << attempt.saturating_sub(1).min(16)).min(300_000))
}

#[cfg(test)]
mod tests {
    use super::{Fault, is_environment, retry_after_ms};

    #[test]
    fn the_environment_is_never_the_guests_fault() {
        for (code, environment) in [
            ("08006", true),
            ("53300", true),
            ("57P01", true),
            ("40001", true),
            ("40P01", true),
            ("55P03", true),
            ("57014", false),
            ("25006", false),
            ("23505", false),
            ("42601", false),
            ("22P02", false),
        ] {
            assert_eq!(is_environment(code), environment, "{code}");
        }
    }

    #[test]
    fn a_failing_statement_of_the_host_has_one_fault() {
        for (sqlstate, expected) in [
            ("SG100", "LaneLost"),
            ("SG103", "LaneLost"),
            ("08006", "Environment"),
            ("53300", "Environment"),
            ("57P01", "Environment"),
            ("40001", "Environment"),
            ("57014", "Environment"),
            ("25006", "Environment"),
            ("23505", "Guest"),
            ("22021", "Guest"),
            ("42501", "Guest"),
        ] {
            let fault = Fault::of_sqlstate(sqlstate, String::new());
            assert!(format!("{fault:?}").starts_with(expected), "{sqlstate}: {fault:?}");
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<_> = (1..=4).map(|attempt| retry_after_ms(attempt, 4)).collect();
        assert_eq!(pauses, [Some(1_000), Some(2_000), Some(4_000), None]);
        assert_eq!(retry_after_ms(12, 20), Some(300_000));
    }
}
