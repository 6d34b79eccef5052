//! What a guest asks for during a call. The host checks it at once, buffers it, and writes it with the unit.
//!
//! Mirrors the records of `wit/`, which document the fields. `cause` is the place of the delivery or request
//! in the call.

use std::collections::HashSet;

/// The effects of one call, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages into the outbox.
    pub published: Vec<Outgoing>,
    /// Sagas to start.
    pub started: Vec<NewSaga>,
    /// Transitions of sagas.
    pub transitions: Vec<Transition>,
    /// Timers to set.
    pub timers: Vec<Timer>,
    /// Names of timers to cancel.
    pub cancelled: Vec<String>,
}

impl Effects {
    /// Appends the effects of a later call, whose causes count from `first` on.
    pub fn append(&mut self, mut later: Self, first: u32) {
        later.published.iter_mut().for_each(|effect| effect.cause += first);
        later.started.iter_mut().for_each(|effect| effect.cause += first);
        later.transitions.iter_mut().for_each(|effect| effect.cause += first);
        later.timers.iter_mut().for_each(|effect| effect.cause += first);
        self.published.append(&mut later.published);
        self.started.append(&mut later.started);
        self.transitions.append(&mut later.transitions);
        self.timers.append(&mut later.timers);
        self.cancelled.append(&mut later.cancelled);
    }

    /// Whether both start or advance the same saga.
    pub fn share_a_saga_with(&self, other: &Self) -> bool {
        let here: HashSet<(&str, &str)> = self.sagas().collect();
        !here.is_empty() && other.sagas().any(|saga| here.contains(&saga))
    }

    /// Types and keys of the sagas that start or advance.
    fn sagas(&self) -> impl Iterator<Item = (&str, &str)> {
        let started = self.started.iter().map(|saga| (&*saga.saga_type, &*saga.key));
        started.chain(self.transitions.iter().map(|saga| (&*saga.saga_type, &*saga.key)))
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The place of its cause in the call.
    pub cause: u32,
    /// Topic.
    pub topic: String,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// CloudEvents `type`.
    pub event_type: String,
    /// Content type.
    pub content_type: String,
    /// Further headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// None is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// A saga to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSaga {
    /// The place of its cause in the call.
    pub cause: u32,
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// State.
    pub state: String,
    /// JSON.
    pub data: String,
    /// Microseconds since 1970.
    pub deadline: i64,
}

/// A transition of a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The place of its cause in the call.
    pub cause: u32,
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Revision before it.
    pub expected_revision: u64,
    /// What happened, past tense.
    pub event: String,
    /// State after it.
    pub state: String,
    /// JSON after it; none leaves it as it was.
    pub data: Option<String>,
    /// Whether it continues to wait or has ended.
    pub status: Status,
}

/// Whether a saga waits or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting until this deadline, microseconds since 1970.
    Until(i64),
    /// As `Until`, after a deadline that passed unanswered. Only the host decides on it, never a plugin.
    Overdue(i64),
    /// Ended.
    Finished(Finish),
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Which end.
    pub ending: Ending,
    /// A JSON object for the caller that waits for the end.
    pub answer: Option<String>,
}

/// The ends of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are completed.
    Completed,
    /// Every completed step is undone.
    Compensated,
    /// Neither: a person must decide.
    Failed,
}

/// A timer to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The place of its cause in the call.
    pub cause: u32,
    /// Unique in the plugin.
    pub name: String,
    /// Microseconds since 1970.
    pub due: i64,
    /// Ordering key of the delivery that it becomes.
    pub correlation: Option<String>,
    /// The payload of that delivery.
    pub payload: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::{Effects, NewSaga, Status, Transition};

    #[test]
    fn a_saga_that_one_starts_and_the_other_advances_is_shared() {
        let started = |key: &str| NewSaga {
            cause: 0,
            saga_type: "order".into(),
            key: key.into(),
            state: String::new(),
            data: String::new(),
            deadline: 0,
        };
        let moved = |saga_type: &str, key: &str| Transition {
            cause: 0,
            saga_type: saga_type.into(),
            key: key.into(),
            expected_revision: 1,
            event: String::new(),
            state: String::new(),
            data: None,
            status: Status::Until(0),
        };
        let starts = Effects { started: vec![started("1"), started("2")], ..Effects::default() };
        let moves =
            |saga_type, key| Effects { transitions: vec![moved(saga_type, key)], ..Effects::default() };
        assert!(starts.share_a_saga_with(&moves("order", "2")));
        assert!(!starts.share_a_saga_with(&moves("refund", "2")));
        assert!(!starts.share_a_saga_with(&moves("order", "3")));
        assert!(!Effects::default().share_a_saga_with(&starts));
    }
}
