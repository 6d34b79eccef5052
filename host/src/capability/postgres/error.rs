//! SQL errors as a guest sees them: those of Postgres, of the connection, and four of the host.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::model::{bindings::saga::plugin::postgres::SqlError, fault::ends_session};

/// The result has more rows than `rows_max`.
pub(super) const ROWS: &str = "SG001";
/// The result has more bytes than `result_bytes_max`.
pub(super) const BYTES: &str = "SG002";
/// The statement is not of an allowed kind.
pub(super) const KIND: &str = "SG003";
/// A type is not supported, or a value is not of the expected one.
pub(super) const TYPE: &str = "SG004";

const CONNECTION_FAILURE: &str = "08006";
const SERIALIZATION_FAILURE: &str = "40001";

/// Why a statement failed: what the guest sees, and what only the host knows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {}", error.sqlstate, error.message)]
pub struct StatementError {
    /// For the guest.
    pub error: SqlError,
    /// The connection is lost, or Postgres has closed it: no guest can cause that, though it can raise any
    /// SQLSTATE.
    pub ends_session: bool,
}

impl From<SqlError> for StatementError {
    fn from(error: SqlError) -> Self {
        Self { error, ends_session: false }
    }
}

/// An error that the host itself found.
pub(super) fn of_host(sqlstate: &str, message: String) -> SqlError {
    SqlError { sqlstate: sqlstate.to_owned(), message, detail: None, constraint: None, position: None }
}

/// What Postgres reported. Any other error means that the connection is lost.
pub(super) fn reported(error: &sqlx::Error) -> StatementError {
    StatementError { error: seen_by_guest(error), ends_session: ends_session(error) }
}

fn seen_by_guest(error: &sqlx::Error) -> SqlError {
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

/// The error as a serialization failure, after which the host runs the unit again.
pub(super) fn again(error: &sqlx::Error) -> StatementError {
    SqlError { sqlstate: SERIALIZATION_FAILURE.to_owned(), ..seen_by_guest(error) }.into()
}

/// Whether it is "cached plan must not change result type". The name of the routine that raises it
/// distinguishes it from other errors with SQLSTATE 0A000; the text may be translated.
pub(super) fn is_stale_plan(error: &sqlx::Error) -> bool {
    postgres(error).is_some_and(|e| e.code() == "0A000" && e.routine() == Some("RevalidateCachedQuery"))
}

fn postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|e| e.try_downcast_ref())
}
