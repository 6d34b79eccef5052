//! `postgres`: SQL in the unit's transaction. Counts statements and records their errors; [`super::postgres`]
//! runs them.

use std::time::Duration;

use super::{
    guest::{CallAccess, Guest, OverLimit, SqlFailure},
    postgres::{self, SqlLimits, StatementError},
};
use crate::{
    model::{
        bindings::saga::plugin::postgres::{Host, Param, SqlError, Table},
        sqlstate::Statement,
    },
    store::session::Session,
};

/// Statements that stay prepared on a connection.
const DISTINCT_STATEMENTS_MAX: usize = 200;
const QUERY_CANCELED: &str = "57014";

impl Host for Guest {
    async fn query(&mut self, sql: String, params: Vec<Param>) -> wasmtime::Result<Result<Table, SqlError>> {
        let (session, limits) = prepare(self)?;
        let answer = postgres::query(session, &limits, sql, params).await;
        Ok(recorded(self, answer))
    }

    async fn execute(&mut self, sql: String, params: Vec<Param>) -> wasmtime::Result<Result<u64, SqlError>> {
        let (session, limits) = prepare(self)?;
        let answer = postgres::execute(session, &limits, sql, params).await;
        Ok(recorded(self, answer))
    }
}

fn prepare(guest: &mut Guest) -> wasmtime::Result<(&mut Session, SqlLimits)> {
    if guest.access == CallAccess::None {
        return Err(OverLimit("describe() called postgres: it may call nothing".to_owned()).into());
    }
    guest.start_statement()?;
    let limits = &guest.grant.limits;
    let limits = SqlLimits {
        rows_max: limits.rows_max,
        result_bytes_max: limits.result_bytes_max,
        distinct_statements_max: DISTINCT_STATEMENTS_MAX,
    };
    match &mut guest.session {
        Some(session) => Ok((session, limits)),
        None => wasmtime::bail!("postgres without a session"),
    }
}

fn recorded<T>(guest: &mut Guest, answer: Result<T, StatementError>) -> Result<T, SqlError> {
    match answer {
        Ok(answer) => {
            guest.end_statement();
            Ok(answer)
        }
        Err(StatementError { error, ends_session }) => {
            let error = timed_out(guest, error);
            let cause = Statement::Guest.cause(&error.sqlstate, ends_session);
            guest.fail_statement(SqlFailure {
                cause,
                sqlstate: error.sqlstate.clone(),
                message: error.message.clone(),
            });
            Err(error)
        }
    }
}

/// Names the limit where a statement was cancelled for taking too long. Postgres does not, and a person may
/// cancel a statement too.
fn timed_out(guest: &Guest, mut error: SqlError) -> SqlError {
    let most = guest.grant.limits.unit_ms_max;
    let took = guest.progress.statement.lock().map(|started| started.elapsed());
    if error.sqlstate == QUERY_CANCELED
        && took.is_some_and(|took| took >= Duration::from_millis(u64::from(most)))
    {
        error.message = format!("{}; a unit may take unit_ms_max = {most} ms", error.message);
    }
    error
}
