//! A saga as a list of steps. Each step sends something out and waits for the reply; when one fails, those
//! before it are undone in reverse order. What comes next is one pure function, [`next`]; what a reply means
//! is the author's [`Saga::judge`].

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

/// The state of a saga that has reached one of its ends.
pub const COMPLETE: &str = "SAGA_COMPLETE";
/// The state of a saga that a person must look at.
pub const FAILED: &str = "SAGA_FAILED";

/// How one kind of saga goes. [`Effects::start`] starts one.
pub trait Saga: 'static {
    /// Its name at the host, e.g. `order`.
    const TYPE: &'static str;
    /// What it remembers; shown and searched by the host.
    type Data: Serialize + DeserializeOwned;
    /// What its steps wait for.
    type Reply: Input<Source = Delivery, Answer = Outcome>;
    /// Business rows that change when it ends.
    type Rows: Rows + Default;

    /// Its steps, in order; states are unique.
    fn steps(context: &Context<'_>) -> Vec<Step<Self::Data>>;

    /// What a reply says about the step that it answers. What must be known later is put into the data.
    fn judge(data: &mut Self::Data, reply: &Self::Reply) -> Verdict;

    /// The saga has ended: business rows, last messages, and what it is called.
    fn finished(
        data: &Self::Data,
        ending: Ending,
        rows: &mut Self::Rows,
        effects: &mut Effects<'_>,
    ) -> Finished;

    /// Stores the rows of all sagas that ended in the batch. Not called when there are none.
    ///
    /// # Errors
    /// As Postgres reports: the unit is rolled back.
    fn store(db: &Db<'_>, rows: &Self::Rows) -> DbResult<()>;
}

/// What a saga's end is called, and what a caller who waits for it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Past tense, e.g. `ORDER_CONFIRMED`.
    pub event: &'static str,
    /// JSON object whose members are added to the body of a caller that waits.
    pub answer: Option<String>,
}

impl Effects<'_> {
    /// Starts a saga with its first step. The key must be new: insert a row of your own for it, `ON CONFLICT
    /// DO NOTHING`, first.
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
