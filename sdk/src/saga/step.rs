//! The steps that a saga is made of.

use std::{fmt, time::Duration};

use crate::effects::Effects;

/// How long a step waits by default.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// Publishes what a step or its undo asks for.
pub(super) type Send<D> = fn(&D, &mut Effects<'_>);

/// One step: what it sends, how long it waits for the reply, and how it is undone.
pub struct Step<D> {
    pub(super) state: &'static str,
    pub(super) action: Send<D>,
    pub(super) undo: Option<(&'static str, Send<D>)>,
    pub(super) deadline: Duration,
    pub(super) on_deadline: OnDeadline,
}

/// What a deadline without a reply means. The outcome of the step is unknown then: it may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeadline {
    /// The saga goes on waiting, and a late reply still counts. The host marks it overdue and sets its next
    /// deadline, with growing pauses.
    Wait,
    /// The saga gives up: the step is undone as if it had been done, and then the completed steps before it. A
    /// late reply changes nothing; the saga's log records it. A step without an undo is passed over, as when a
    /// later step fails: it should change nothing that must be taken back.
    ///
    /// What the step asks for and its undo may reach the participant in any order, and each more than once. So
    /// the participant keeps a row for each saga and step, by which it does both once: an undo that comes
    /// first is recorded, and makes the action do nothing.
    Undo,
}

impl<D> Step<D> {
    /// A step that runs `action` and waits in `state` for the reply.
    #[must_use]
    pub fn new(state: &'static str, action: fn(&D, &mut Effects<'_>)) -> Self {
        Self { state, action, undo: None, deadline: DEADLINE_DEFAULT, on_deadline: OnDeadline::Wait }
    }

    /// Sets how the step is undone when a later one fails, or when its own outcome stays unknown
    /// ([`OnDeadline::Undo`]): `action` is sent, and the saga waits in `state` for the reply.
    #[must_use]
    pub fn undo(self, state: &'static str, action: fn(&D, &mut Effects<'_>)) -> Self {
        Self { undo: Some((state, action)), ..self }
    }

    /// Sets how long to wait for a reply, 30 s by default.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sets what a missed deadline means, [`OnDeadline::Wait`] by default. An undo always waits.
    #[must_use]
    pub fn on_deadline(self, on_deadline: OnDeadline) -> Self {
        Self { on_deadline, ..self }
    }
}

impl<D> fmt::Debug for Step<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("state", &self.state)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
