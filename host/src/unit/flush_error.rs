//! Why a unit could not be flushed: a lost race over a saga, with who is to blame when the race repeats, or a
//! fault.

use sqlx::postgres::PgDatabaseError;

use super::writes::UnitWrites;
use crate::model::{
    fault::{Culprit, Fault, ParkedUntil},
    sqlstate::{REVISION_CONFLICT, SAGA_EXISTS, Statement},
};

/// Why a unit was not written or not committed.
#[derive(Debug)]
pub(super) enum FlushError {
    /// A saga to start exists, or is not at the revision that the plugin expected. Another unit may have
    /// changed it after the plugin read it, so the unit runs again. Contains the fault for the case that this
    /// does not help: then the plugin itself names a wrong revision or key.
    LostRace(Fault),
    /// Anything else.
    Fault(Fault),
}

impl From<Fault> for FlushError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Judges what Postgres reported of `saga.flush`.
pub(super) fn of(error: &sqlx::Error, writes: &UnitWrites) -> FlushError {
    let database_error =
        error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let Some(reported) = database_error else { return Fault::of(error).into() };
    if is_racing_answer(reported.code(), reported.table()) {
        return Fault::Environment(error.to_string()).into();
    }
    match conflict(reported.code(), reported.detail().unwrap_or_default(), writes) {
        Some(fault) => FlushError::LostRace(fault),
        None => Fault::of_statement(Statement::HostValues, error).into(),
    }
}

/// Another host's lane has stored an answer for the same idempotency key meanwhile: the unit finds it when it
/// runs again.
fn is_racing_answer(sqlstate: &str, table: Option<&str>) -> bool {
    sqlstate == "23505" && table.is_some_and(|table| table.starts_with("stored_answer_"))
}

/// The fault of a plugin that causes this conflict again and again; none for other SQLSTATEs.
fn conflict(sqlstate: &str, detail: &str, writes: &UnitWrites) -> Option<Fault> {
    let culprits = match sqlstate {
        SAGA_EXISTS => existing_sagas(detail, writes),
        REVISION_CONFLICT => wrong_revisions(detail, writes),
        _ => return None,
    };
    // A key may contain the separator of the lines. Then no culprit is found by name.
    let fault = match culprits.is_empty() {
        true => Fault::Guest(format!("saga-conflict: {detail}")),
        false => Fault::Culprits(culprits),
    };
    Some(fault)
}

/// A start that conflicts can only be redriven by a person: the saga in its way must end first.
fn existing_sagas(detail: &str, writes: &UnitWrites) -> Vec<Culprit> {
    let existing: Vec<&str> = detail.lines().collect();
    let starts = writes.saga_starts.rows.iter().zip(&writes.saga_starts.causes);
    starts
        .map(|(row, cause)| (format!("{}/{}", row.saga_type, row.key), *cause))
        .filter(|(name, _)| existing.contains(&name.as_str()))
        .map(|(name, cause)| Culprit {
            cause,
            reason: format!("saga-conflict: saga {name} exists"),
            until: ParkedUntil::Redriven,
        })
        .collect()
}

fn wrong_revisions(detail: &str, writes: &UnitWrites) -> Vec<Culprit> {
    let steps = writes.saga_steps.rows.iter().map(|row| (&row.saga_type, &row.key));
    let ends = writes.saga_ends.rows.iter().map(|row| (&row.saga_type, &row.key));
    let causes = writes.saga_steps.causes.iter().chain(&writes.saga_ends.causes);
    let mut culprits = Vec::new();
    for ((saga_type, key), cause) in steps.chain(ends).zip(causes) {
        let start = format!("{saga_type}/{key}: expected revision ");
        if let Some(line) = detail.lines().find(|line| line.starts_with(&start)) {
            let reason = format!("saga-conflict: saga {line}");
            culprits.push(Culprit { cause: *cause, reason, until: ParkedUntil::Backoff });
        }
    }
    culprits
}

#[cfg(test)]
mod tests;
