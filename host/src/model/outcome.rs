//! What a plugin reports for each delivery.

/// The outcome of one delivery. All but [`Outcome::Done`] promise that nothing was written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Handled.
    Done,
    /// Late, unknown, or in conflict with the state; the host records the reason.
    Ignored(String),
    /// Not now: the host parks the delivery, and later ones of its key queue behind it.
    Retry {
        /// How long, at least.
        after_ms: u32,
        /// Why.
        reason: String,
    },
    /// Never: the host parks it until a person redrives or discards it.
    Reject(String),
}

impl Outcome {
    /// The reason of a delivery that changed nothing.
    #[must_use]
    pub fn ignored_because(&self) -> Option<&str> {
        if let Self::Ignored(reason) = self { Some(reason) } else { None }
    }
}
