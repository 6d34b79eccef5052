//! `postgres`: SQL in the unit's transaction. What is counted and remembered around a statement;
//! the statement itself is [`super::postgres`].

use super::{
    guest::{Access, Guest, OverLimit},
    postgres::{self, SqlLimits},
};
use crate::plugin::{
    bindings::saga::plugin::postgres::{Host, Param, SqlError, Table},
    call::Session,
};

/// Prepared statements that one session keeps.
const DISTINCT_STATEMENTS_MAX: usize = 200;

impl Host for Guest {
    async fn query(&mut self, sql: String, params: Vec<Param>) -> wasmtime::Result<Result<Table, SqlError>> {
        let (session, limits) = prepare(self)?;
        let answer = postgres::query(session, &limits, sql, params).await;
        Ok(note(self, answer))
    }

    async fn execute(&mut self, sql: String, params: Vec<Param>) -> wasmtime::Result<Result<u64, SqlError>> {
        let (session, limits) = prepare(self)?;
        let answer = postgres::execute(session, &limits, sql, params).await;
        Ok(note(self, answer))
    }
}

fn prepare(guest: &mut Guest) -> wasmtime::Result<(&mut Session, SqlLimits)> {
    if guest.access == Access::None {
        return Err(OverLimit("describe() called postgres: it may call nothing".to_owned()).into());
    }
    guest.begin_statement()?;
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

fn note<T>(guest: &mut Guest, answer: Result<T, SqlError>) -> Result<T, SqlError> {
    guest.end_statement(answer.as_ref().err().map(|error| (error.sqlstate.as_str(), error.message.as_str())));
    answer
}
