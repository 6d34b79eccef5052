//! A saga as a list of steps. Each step sends something and waits for the reply. When a step fails, the
//! completed ones before it are undone in reverse order. A step whose outcome is unknown is undone first. One pure function, [`next`], decides what comes
//! next; the author's [`Saga::judge`] decides what a reply means.

pub(crate) mod live;
mod next;
pub(crate) mod run;
mod step;

use std::fmt::Display;

use serde::{Serialize, de::DeserializeOwned};

pub use next::{Action, Next, Verdict, next};
pub use step::{OnDeadline, Step};

pub use crate::bindings::saga::plugin::sagas::Ending;
use crate::{
    bindings::saga::plugin::sagas::NewSaga,
    context::Context,
    db::{Db, DbResult},
    effects::Effects,
    input::{Delivery, Input, Outcome},
    rows::Rows,
};

/// The state of a saga that ended, completed or compensated.
pub const COMPLETE: &str = "SAGA_COMPLETE";
/// The state of a saga whose undo failed: a person must decide.
pub const FAILED: &str = "SAGA_FAILED";

/// One type of saga: its steps, and what replies mean. [`Effects::start`] starts one.
pub trait Saga: 'static {
    /// The `saga-type` at the host, e.g. `order`.
    const TYPE: &'static str;
    /// What it remembers, stored as JSON. The host shows it to people.
    type Data: Serialize + DeserializeOwned;
    /// The replies that its steps wait for.
    type Reply: Input<Source = Delivery, Answer = Outcome>;
    /// The plugin's own rows that change when it ends.
    type Rows: Rows + Default;

    /// Its steps, in order. Each state is unique.
    fn steps(context: &Context<'_>) -> Vec<Step<Self::Data>>;

    /// Says what a reply means for the step that it answers. Keep in `data` what must be known later.
    fn judge(data: &mut Self::Data, reply: &Self::Reply) -> Verdict;

    /// Called when the saga ends: changes rows, publishes the last messages, and names the event.
    fn finished(
        data: &Self::Data,
        ending: Ending,
        rows: &mut Self::Rows,
        effects: &mut Effects<'_>,
    ) -> Finished;

    /// Stores the rows of all sagas that ended in the batch. Not called when there are none.
    ///
    /// # Errors
    /// What Postgres reports. The unit is rolled back.
    fn store(db: &Db<'_>, rows: &Self::Rows) -> DbResult<()>;
}

/// The event of a saga's end, and the answer to a caller that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Past tense, e.g. `ORDER_CONFIRMED`.
    pub event: &'static str,
    /// A JSON object, whose members are added to the body of the waiting caller's answer.
    pub answer: Option<String>,
}

impl Effects<'_> {
    /// Starts a saga with its first step. The key must be new: first insert a row of your own for it with
    /// `ON CONFLICT DO NOTHING`. A type without steps makes the delivery or request a culprit.
    pub fn start<S: Saga>(&mut self, key: impl Display, data: &S::Data) {
        let steps = S::steps(self.context());
        let Some(step) = steps.first() else {
            return self.blame("saga-without-steps", format!("{} has no steps", S::TYPE));
        };
        (step.action)(data, self);
        let Some(json) = self.json(data) else { return };
        self.started.push(NewSaga {
            cause: self.context().place(),
            saga_type: S::TYPE.to_owned(),
            key: key.to_string(),
            state: step.state.to_owned(),
            data: json,
            deadline: self.now().plus(step.deadline).0,
        });
    }
}
