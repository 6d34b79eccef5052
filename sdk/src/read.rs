//! Requests that only read (`GET`): one query each, in a read-only transaction.

use crate::{
    bindings::saga::plugin::types::Failure,
    db::{Db, DbResult},
    input::{Input, Request, Response},
    unit::Unit,
};

/// A handler of a `GET` route.
pub trait Read: 'static {
    /// The query, decoded from the request.
    type Query: Input<Source = Request, Answer = Response>;

    /// Answers one request.
    ///
    /// # Errors
    /// What Postgres reports. The request is answered 500.
    fn answer(db: &Db<'_>, query: &Self::Query) -> DbResult<Response>;
}

pub(crate) fn run<R: Read>(unit: &mut Unit<'_, Request, Response>, places: &[u32]) -> Result<(), Failure> {
    for &place in places {
        if let Some(query) = unit.decode::<R::Query>(place) {
            let response = R::answer(&unit.db(), &query)?;
            unit.answer(place, response);
        }
    }
    Ok(())
}
