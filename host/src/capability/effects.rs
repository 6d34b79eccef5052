//! What a guest asked for during a unit: buffered, judged when it asks, written when the unit closes.
//!
//! Mirrors the records of `wit/`; `cause` is the place of the delivery or request in the call.

/// Everything that one call of a guest asked for, in its order.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages into the outbox.
    pub published: Vec<Outgoing>,
    /// Sagas that begin.
    pub begun: Vec<Beginning>,
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
        later.begun.iter_mut().for_each(|effect| effect.cause += first);
        later.transitions.iter_mut().for_each(|effect| effect.cause += first);
        later.timers.iter_mut().for_each(|effect| effect.cause += first);
        self.published.append(&mut later.published);
        self.begun.append(&mut later.begun);
        self.transitions.append(&mut later.transitions);
        self.timers.append(&mut later.timers);
        self.cancelled.append(&mut later.cancelled);
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

/// A saga that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
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
    /// Waiting until then, microseconds since 1970.
    Until(i64),
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
