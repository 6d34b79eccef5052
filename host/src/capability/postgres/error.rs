//! SQL errors as a guest sees them: Postgres's own, the connection's, and the four of the host.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::model::bindings::saga::plugin::postgres::SqlError;

/// More rows than a result may have.
pub(super) const ROWS: &str = "SG001";
/// More bytes than a result may have.
pub(super) const BYTES: &str = "SG002";
/// Not a kind of statement that a guest may run.
pub(super) const KIND: &str = "SG003";
/// A type that does not cross, or a value that is not of the expected one.
pub(super) const TYPE: &str = "SG004";

const CONNECTION_FAILURE: &str = "08006";
const SERIALIZATION_FAILURE: &str = "40001";

/// An error that the host itself found.
pub(super) fn of_host(sqlstate: &str, message: String) -> SqlError {
    SqlError { sqlstate: sqlstate.to_owned(), message, detail: None, constraint: None, position: None }
}

/// What Postgres reported; anything else means that the connection is of no more use.
pub(super) fn reported(error: &sqlx::Error) -> SqlError {
    let Some(reported) = postgres(error) else {
        return of_host(CONNECTION_FAILURE, error.to_string());
    };
    SqlError {
        sqlstate: reported.code().to_owned(),
        message: reported.message().to_owned(),
        detail: reported.detail().map(str::to_owned),
        constraint: reported.constraint().map(str::to_owned),
        position: match reported.position() {
            Some(PgErrorPosition::Original(position)) => u32::try_from(position).ok(),
            _ => None,
        },
    }
}

/// The same as a serialization failure, which the host answers by running the unit again.
pub(super) fn again(error: &sqlx::Error) -> SqlError {
    SqlError { sqlstate: SERIALIZATION_FAILURE.to_owned(), ..reported(error) }
}

/// True for "cached plan must not change result type", told apart from other 0A000 by the place
/// in Postgres that raises it: the text is translated.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    postgres(error).is_some_and(|e| e.code() == "0A000" && e.routine() == Some("RevalidateCachedQuery"))
}

fn postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|e| e.try_downcast_ref())
}
