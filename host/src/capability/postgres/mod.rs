//! SQL for guests, in their unit's transaction and under their plugin's role: `wit/postgres.wit`.
//!
//! A statement is judged by its first word, prepared without types, and its parameters are written
//! in the binary form of what Postgres inferred, so that one text always means one plan. Rows go
//! from the wire straight into columns. After the first time a statement costs one round trip.
//!
//! Never ends the transaction: none of the statements that `statement` lets through can.

mod array;
mod column;
mod error;
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
use crate::{
    model::bindings::saga::plugin::postgres::{Param, SqlError, Table},
    store::session::Session,
};

/// What one plugin may ask of a connection.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Rows of one result; more are SQLSTATE SG001.
    pub rows_max: u32,
    /// Bytes of one result in the guest's memory; more are SQLSTATE SG002.
    pub result_bytes_max: usize,
    /// Statements that stay prepared on a connection. With more distinct texts all are forgotten
    /// and prepared anew: a plugin should send values as parameters, not as text.
    pub distinct_statements_max: usize,
}

/// Runs a statement and gathers its rows.
///
/// # Errors
/// What Postgres reported, or `SG001` to `SG004`. Every error ends the unit: a statement that
/// failed only here may have written. Cancelled, the connection is in the middle of an answer:
/// close it.
pub async fn query(
    session: &mut Session,
    limits: &SqlLimits,
    sql: String,
    params: Vec<Param>,
) -> Result<Table, SqlError> {
    let prepared = prepare(session, limits, sql).await?;
    let mut columns = Columns::new(prepared.columns())?;
    match gather(session, limits, &prepared, param::arguments(&params, &prepared)?, &mut columns).await {
        Ok(()) => Ok(columns.finish()),
        Err(Stop::Here(error)) => Err(error),
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
) -> Result<u64, SqlError> {
    let prepared = prepare(session, limits, sql).await?;
    let arguments = param::arguments(&params, &prepared)?;
    match session.connection.execute(prepared.query_with(arguments)).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => Err(failed(session, &error).await),
    }
}

/// Why a result is not gathered further.
enum Stop {
    /// It is over a limit, or no value of ours.
    Here(SqlError),
    /// What Postgres or the connection reported.
    Postgres(sqlx::Error),
}

/// Rows that are left when a limit bites are dropped unread when the unit is rolled back.
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

async fn prepare(session: &mut Session, limits: &SqlLimits, sql: String) -> Result<PgStatement, SqlError> {
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

/// A schema change can make a prepared statement unusable for good. All are forgotten then, and
/// the error says so in a way that makes the host run the unit again.
async fn failed(session: &mut Session, error: &sqlx::Error) -> SqlError {
    if !error::is_stale_plan(error) {
        return error::reported(error);
    }
    match session.connection.clear_cached_statements().await {
        Ok(_) => error::again(error),
        Err(lost) => error::reported(&lost),
    }
}
