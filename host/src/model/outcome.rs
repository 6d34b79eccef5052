//! What a plugin says became of a delivery.

/// What became of one delivery. All but [`Outcome::Done`] promise that nothing was written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled.
    Done,
    /// Late, unknown or contradicting: recorded with this reason.
    Ignored(String),
    /// Not now: it and its key wait.
    Retry {
        /// How long, at least.
        after_ms: u32,
        /// Why.
        reason: String,
    },
    /// Held for a person, with this reason.
    Reject(String),
}
