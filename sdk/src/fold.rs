//! Load for the batch, decide one by one, store for the batch: how deliveries and writing requests are
//! handled.
//!
//! A batch of hundreds costs two statements, yet each decision is about one input: pure, in order, and it
//! sees what earlier ones changed. If a decision says "no", its changes are taken back in memory, and the
//! rest of the batch is not touched.

use crate::{
    bindings::saga::plugin::types::Failure,
    db::{Db, DbResult},
    effects::Effects,
    input::{Answer, Input},
    rows::Rows,
    unit::Unit,
};

/// A handler of deliveries (`Input::Answer` is [`crate::Outcome`]) or of requests that write
/// ([`crate::Response`]).
pub trait Fold: 'static {
    /// What it decides on.
    type Input: Input;
    /// The rows that it loads and changes: [`crate::Table`], [`crate::Added`], [`crate::Claims`], pairs of
    /// them, or `()`.
    type Rows: Rows;

    /// Loads the rows that the whole batch needs, locked in key order, or claims keys by inserting them.
    ///
    /// # Errors
    /// What Postgres reports. The unit is rolled back.
    fn load(db: &Db<'_>, inputs: &[Self::Input]) -> DbResult<Self::Rows>;

    /// Decides on one input. Unless the answer is [`crate::Outcome::Done`] or a status below 400, its changes
    /// and effects are dropped.
    fn decide(
        rows: &mut Self::Rows,
        input: &Self::Input,
        effects: &mut Effects<'_>,
    ) -> <Self::Input as Input>::Answer;

    /// Stores the changed rows, each key once. Not called when none changed.
    ///
    /// # Errors
    /// What Postgres reports. The unit is rolled back.
    fn store(db: &Db<'_>, rows: &Self::Rows) -> DbResult<()>;
}

/// Handles the deliveries or requests at `places` of a unit.
pub(crate) fn run<F: Fold>(
    unit: &mut Unit<'_, <F::Input as Input>::Source, <F::Input as Input>::Answer>,
    places: &[u32],
) -> Result<(), Failure> {
    let (decoded, inputs): (Vec<u32>, Vec<F::Input>) =
        places.iter().filter_map(|&place| Some((place, unit.decode(place)?))).unzip();
    if inputs.is_empty() {
        return Ok(());
    }
    let db = unit.db();
    let mut rows = F::load(&db, &inputs)?;
    for (place, input) in decoded.into_iter().zip(&inputs) {
        let answer = decide::<F>(place, &mut rows, input, &mut unit.effects);
        unit.answer(place, answer);
    }
    if rows.is_changed() {
        F::store(&db, &rows)?;
    }
    Ok(())
}

/// Decides on one input, and keeps its changes or takes them back.
pub(crate) fn decide<F: Fold>(
    place: u32,
    rows: &mut F::Rows,
    input: &F::Input,
    effects: &mut Effects<'_>,
) -> <F::Input as Input>::Answer {
    effects.context().at(place);
    let mark = effects.mark();
    let answer = F::decide(rows, input, effects);
    if answer.keeps() {
        rows.keep();
    } else {
        rows.undo();
        effects.undo(mark);
    }
    answer
}
