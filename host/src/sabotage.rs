//! Switches that each remove one protection, for `saga-bench chaos --sabotage`: a check that stays green without
//! the protection checks nothing.
//!
//! `SAGA_HOST_SABOTAGE=NAME` chooses one, in a build with the feature `sabotage`. No other build can have one:
//! there a switch is a constant that the compiler removes.

/// A protection that can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// A repeated record is handled again.
    RepeatsHandled,
    /// A unit commits although another host has claimed its partitions.
    ClaimsNotCompared,
    /// A partition is read from before the position that the last unit has stored.
    PositionBehind,
    /// Records are sent before their unit commits.
    SentBeforeCommit,
    /// An outbox row is deleted before Kafka has acknowledged its records.
    ClearedBeforeAcknowledged,
    /// The relay sends the newest unit first.
    OrderNotKept,
    /// Records are handed over to a lane that has not read all that comes before them.
    JoinedAtOnce,
    /// A delivery is handled although an earlier one of its key is parked.
    KeyNotHeld,
    /// A COMMIT without an answer counts as committed.
    CommitGuessed,
    /// The answer to an idempotency key is not stored.
    AnswersNotKept,
}

/// Whether this protection is removed.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn on(_: Switch) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use self::chosen::on;

#[cfg(feature = "sabotage")]
mod chosen {
    use std::sync::OnceLock;

    use super::Switch;

    static CHOSEN: OnceLock<Option<Switch>> = OnceLock::new();

    /// Whether this protection is removed.
    pub fn on(switch: Switch) -> bool {
        *CHOSEN.get_or_init(read) == Some(switch)
    }

    fn read() -> Option<Switch> {
        let name = std::env::var("SAGA_HOST_SABOTAGE").ok()?;
        let switch = match name.as_str() {
            "repeats-handled" => Switch::RepeatsHandled,
            "claims-not-compared" => Switch::ClaimsNotCompared,
            "position-behind" => Switch::PositionBehind,
            "sent-before-commit" => Switch::SentBeforeCommit,
            "cleared-before-acknowledged" => Switch::ClearedBeforeAcknowledged,
            "order-not-kept" => Switch::OrderNotKept,
            "joined-at-once" => Switch::JoinedAtOnce,
            "key-not-held" => Switch::KeyNotHeld,
            "commit-guessed" => Switch::CommitGuessed,
            "answers-not-kept" => Switch::AnswersNotKept,
            _ => return None,
        };
        tracing::warn!("sabotage: {name}");
        Some(switch)
    }
}
