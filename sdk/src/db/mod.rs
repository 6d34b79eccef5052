//! SQL in the unit's transaction: one statement for the whole batch, columns in and rows out.
//!
//! ```ignore
//! let found = db.query(
//!     "SELECT product_id, current_qty FROM public.stock
//!       WHERE product_id = ANY ($1) ORDER BY product_id FOR UPDATE",
//!     &[many(ids)],
//! )?;
//! let rows: Vec<(i32, i32)> = found.rows()?;
//! ```
//!
//! Statements are `&'static str`: a plugin has a handful of them, and the host prepares each once per
//! connection. Values are parameters, never text.

mod cell;
mod rows;

use std::fmt;

pub use cell::{Cell, many, many_or_null, null, one};
pub use rows::{Found, FromColumn, FromRows};

use crate::{
    bindings::saga::plugin::{
        postgres::{Param, SqlError},
        types::Failure,
    },
    host::Host,
};

/// The plugin's database, inside the unit's transaction.
#[derive(Clone, Copy)]
pub struct Db<'a> {
    host: &'a dyn Host,
}

/// A failed statement. The transaction is lost: pass the error on with `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbError {
    /// The SQLSTATE; empty where Postgres succeeded but the result is not what the plugin expected.
    pub sqlstate: String,
    /// For people: the error, and the first words of the statement.
    pub message: String,
}

/// The result of a statement.
pub type DbResult<T> = Result<T, DbError>;

impl<'a> Db<'a> {
    /// The database of this host's unit.
    #[must_use]
    pub fn new(host: &'a dyn Host) -> Self {
        Self { host }
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// What Postgres reports.
    pub fn query(&self, sql: &'static str, params: &[Param]) -> DbResult<Found> {
        self.host.query(sql, params).map(Found::from).map_err(|error| DbError::of(sql, error))
    }

    /// Runs a statement and returns the number of rows affected.
    ///
    /// # Errors
    /// What Postgres reports.
    pub fn execute(&self, sql: &'static str, params: &[Param]) -> DbResult<u64> {
        self.host.execute(sql, params).map_err(|error| DbError::of(sql, error))
    }
}

impl fmt::Debug for Db<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Db")
    }
}

impl DbError {
    /// An error for a result that the plugin did not expect.
    #[must_use]
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self { sqlstate: String::new(), message: message.into() }
    }

    fn of(sql: &str, error: SqlError) -> Self {
        let mut message = error.message;
        if let Some(detail) = error.detail {
            message = format!("{message} ({detail})");
        }
        let statement: String = sql.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
        Self { message: format!("{message} in: {statement} …"), sqlstate: error.sqlstate }
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.sqlstate, self.message)
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self { message: error.to_string(), culprits: Vec::new() }
    }
}
