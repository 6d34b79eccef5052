//! SQL for guests, in their unit's transaction and under their plugin's role: `wit/postgres.wit`.
//!
//! The first word of a statement decides whether it is allowed. It is prepared without types, and its
//! parameters are written in the binary form of the types that Postgres inferred, so one text always means
//! one plan. Rows go from the wire into columns. After the first time a statement costs one round trip.
//!
//! Never ends the transaction: none of the statements that `statement` allows can.

mod array;
mod column;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod numeric;
mod param;
mod scalar;
mod statement;

use std::sync::Arc;

use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Connection, Either, Executor, SqlSafeStr, Statement,
    postgres::{PgArguments, PgStatement},
};

use self::column::Columns;
pub use self::error::StatementError;
use crate::{
    model::bindings::saga::plugin::postgres::{Param, SqlError, Table},
    store::session::Session,
};

/// Limits of one plugin's statements.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Rows of one result; more are SQLSTATE SG001.
    pub rows_max: u32,
    /// Bytes of one result in the guest's memory; more are SQLSTATE SG002.
    pub result_bytes_max: usize,
    /// Statements that stay prepared on a connection. With more distinct texts all are dropped and prepared
    /// again: a plugin should send values as parameters, not as text.
    pub distinct_statements_max: usize,
}

/// Runs a statement and collects its rows.
///
/// # Errors
/// What Postgres reported, or `SG001` to `SG004`. Every error ends the unit: a statement that failed here may
/// have written.
///
/// # Cancellation
/// The connection is then in the middle of an answer: close it.
pub async fn query(
    session: &mut Session,
    limits: &SqlLimits,
    sql: String,
    params: Vec<Param>,
) -> Result<Table, StatementError> {
    let prepared = prepare(session, limits, sql).await?;
    let mut columns = Columns::new(prepared.columns())?;
    match gather(session, limits, &prepared, param::arguments(&params, &prepared)?, &mut columns).await {
        Ok(()) => Ok(columns.finish()),
        Err(Stop::Here(error)) => Err(error.into()),
        Err(Stop::Postgres(error)) => Err(failed(session, &error).await),
    }
}

/// Runs a statement for its effect and counts the rows it affected.
///
/// # Errors
/// As [`query`].
pub async fn execute(
    session: &mut Session,
    limits: &SqlLimits,
    sql: String,
    params: Vec<Param>,
) -> Result<u64, StatementError> {
    let prepared = prepare(session, limits, sql).await?;
    let arguments = param::arguments(&params, &prepared)?;
    match session.connection.execute(prepared.query_with(arguments)).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(failed(session, &error).await),
    }
}

/// Why no more rows of a result are collected.
enum Stop {
    /// The result is over a limit, or a value cannot be read.
    Here(SqlError),
    /// What Postgres or the connection reported.
    Postgres(sqlx::Error),
}

/// When the result is over a limit, the rows that are left are dropped with the unit's rollback.
async fn gather(
    session: &mut Session,
    limits: &SqlLimits,
    prepared: &PgStatement,
    arguments: PgArguments,
    columns: &mut Columns,
) -> Result<(), Stop> {
    let mut steps = session.connection.fetch_many(prepared.query_with(arguments));
    while let Some(step) = steps.try_next().await.map_err(Stop::Postgres)? {
        if let Either::Right(row) = step {
            columns.push(&row, limits).map_err(Stop::Here)?;
        }
    }
    Ok(())
}

async fn prepare(
    session: &mut Session,
    limits: &SqlLimits,
    sql: String,
) -> Result<PgStatement, StatementError> {
    statement::check(&sql)?;
    let connection = &mut session.connection;
    if connection.cached_statements_size() > limits.distinct_statements_max {
        connection.clear_cached_statements().await.map_err(|error| error::reported(&error))?;
    }
    // Shared, because sqlx copies the text when the statement is run.
    let sql: Arc<str> = sql.into();
    match connection.prepare(AssertSqlSafe(sql).into_sql_str()).await {
        Ok(prepared) => Ok(prepared),
        Err(error) => Err(failed(session, &error).await),
    }
}

/// A schema change can make a prepared statement unusable. All are dropped then, and the error is one for
/// which the host runs the unit again.
async fn failed(session: &mut Session, error: &sqlx::Error) -> StatementError {
    if !error::is_stale_plan(error) {
        return error::reported(error);
    }
    match session.connection.clear_cached_statements().await {
        Ok(_) => error::again(error),
        Err(lost) => error::reported(&lost),
    }
}
