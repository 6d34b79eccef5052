//! What a guest asked for during a unit: buffered, judged when it asks, written when the unit closes.
//!
//! Mirrors the records of `wit/`; `cause` is the place of the delivery or request in the call.

use std::collections::HashSet;

/// Everything that one call of a guest asked for, in its order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages into the outbox.
    pub published: Vec<Outgoing>,
    /// Sagas to start.
    pub started: Vec<NewSaga>,
    /// Sagas that move on.
    pub transitions: Vec<Transition>,
    /// Timers to set.
    pub timers: Vec<Timer>,
    /// Names of timers to take back.
    pub cancelled: Vec<String>,
}

impl Effects {
    /// Adds what a later call asked for, whose causes count from `first` on.
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

    /// Whether a saga starts or moves on both here and there.
    pub fn share_a_saga_with(&self, other: &Self) -> bool {
        let here: HashSet<(&str, &str)> = self.sagas().collect();
        !here.is_empty() && other.sagas().any(|saga| here.contains(&saga))
    }

    /// Types and keys of the sagas that start or move on.
    fn sagas(&self) -> impl Iterator<Item = (&str, &str)> {
        let started = self.started.iter().map(|saga| (&*saga.saga_type, &*saga.key));
        started.chain(self.transitions.iter().map(|saga| (&*saga.saga_type, &*saga.key)))
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Who caused it.
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
    /// Who caused it.
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

/// A saga that moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Who caused it.
    pub cause: u32,
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Revision before it.
    pub expected_revision: u64,
    /// What happened.
    pub event: String,
    /// State after it.
    pub state: String,
    /// JSON after it; none leaves it.
    pub data: Option<String>,
    /// Where it stands now.
    pub status: Status,
}

/// Where a saga stands.
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
    /// The kind of end.
    pub ending: Ending,
    /// JSON object for a caller that waits.
    pub answer: Option<String>,
}

/// The kinds of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps done.
    Completed,
    /// Every completed step undone.
    Compensated,
    /// Neither: a person must look.
    Failed,
}

/// A timer to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Who caused it.
    pub cause: u32,
    /// Unique in the plugin.
    pub name: String,
    /// Microseconds since 1970.
    pub due: i64,
    /// Ordering key of the delivery that it becomes.
    pub correlation: Option<String>,
    /// What that delivery carries.
    pub payload: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::{Effects, NewSaga, Status, Transition};

    #[test]
    fn a_saga_that_starts_here_and_moves_on_there_is_shared() {
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
