//! Whose fault it is when a unit fails, and so what happens next.

/// Why a unit was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Postgres or the network: the same unit again, nobody is blamed.
    #[error("{0}")]
    Environment(String),
    /// Another host has claimed this lane: claim one anew.
    #[error("another host has claimed this lane")]
    LaneLost,
    /// Another host has claimed partitions that the unit reads: the same again without theirs.
    #[error("another host has claimed partitions of this unit")]
    PartitionsLost,
    /// These deliveries or requests, by their place in the call, must be taken out.
    #[error("{} of the batch cannot be handled", .0.len())]
    Culprits(Vec<Culprit>),
    /// One of the batch, nobody knows which: halve it.
    #[error("{0}")]
    Guest(String),
    /// A saga stays with a version of this digest, which must be loaded first.
    #[error("version {0} of a saga in flight is not loaded")]
    VersionNotLoaded(String),
    /// COMMIT had no answer and the database cannot tell: for a caller to repeat.
    #[error("it cannot be told whether the unit was committed")]
    Unknown,
}

/// One delivery or request that must not be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Its place in the call.
    pub cause: usize,
    /// What is wrong with it.
    pub reason: String,
    /// What becomes of it.
    pub until: ParkedUntil,
}

/// What becomes of a delivery that was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkedUntil {
    /// Tried again after the pause that its attempts have earned.
    Backoff,
    /// Tried again after this many milliseconds.
    RetryAfterMs(u32),
    /// Tried again after this many milliseconds, as often as it takes: no version has tried it.
    VersionRetryMs(u32),
    /// Held until a person has looked.
    Redriven,
}

impl Fault {
    /// Judges what Postgres or the connection reported outside a guest's own statement.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error.as_database_error().and_then(|e| e.code()) {
            Some(code) if code == "SG100" || code == "SG103" => Self::LaneLost,
            Some(code) if !is_environment(&code) && !is_environment_of_host(&code) => {
                Self::Guest(error.to_string())
            }
            _ => Self::Environment(error.to_string()),
        }
    }
}

/// What no statement of the host causes by itself: it was cancelled for taking too long, or the
/// server only reads, as after a failover. A guest causes both with its own.
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
    use super::{is_environment, is_environment_of_host, retry_after_ms};

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
        assert!(["57014", "25006"].into_iter().all(is_environment_of_host));
    }

    #[test]
    fn pauses_double_and_end() {
        let pauses: Vec<_> = (1..=4).map(|attempt| retry_after_ms(attempt, 4)).collect();
        assert_eq!(pauses, [Some(1_000), Some(2_000), Some(4_000), None]);
        assert_eq!(retry_after_ms(12, 20), Some(300_000));
    }
}
