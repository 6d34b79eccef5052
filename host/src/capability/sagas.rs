//! `sagas`: `start` and `advance` are buffered; `load` runs at once and locks.
//!
//! Revisions are checked where they are known: the transitions of a call against each other here, the first
//! of each saga against its row by [`crate::plugin`] and by `saga.flush`.

use std::collections::HashMap;

use futures::TryStreamExt;
use serde::de::IgnoredAny;
use sqlx::PgConnection;

use super::{
    guest::{Guest, OverLimit, SqlFailure},
    refusal::{MALFORMED, SAGA_CONFLICT, SAGA_NOT_OWNED, refuse},
};
use crate::model::{
    bindings::saga::plugin::{
        sagas::{
            Ending as AskedEnding, Host, NewSaga as AskedNewSaga, SagaResult as Saga,
            StatusResult as AskedStatus, Transition as AskedTransition,
        },
        types::Refusal,
    },
    effects::{Ending, Finish, NewSaga, Status, Transition},
    fault::ends_session,
    saga_log::{OVERDUE, STARTED},
    sqlstate::Statement,
};

/// Memory of a saga's effect besides its texts.
const OVERHEAD_BYTES: usize = 160;

/// Microseconds since 1970.
const YEARS_1_TO_9999_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// The sagas that this call has started, advanced or loaded, by type and key: the revision that the next
/// transition must expect; none for a saga that has ended.
pub(crate) type SagaRevisions = HashMap<(String, String), Option<u64>>;

impl Host for Guest {
    async fn start(&mut self, sagas: Vec<AskedNewSaga>) -> wasmtime::Result<Result<(), Refusal>> {
        if let Err(refusal) = self.writable("sagas.start")? {
            return Ok(Err(refusal));
        }
        Ok(sagas.into_iter().try_for_each(|asked| start(self, asked)))
    }

    async fn load(
        &mut self,
        saga_type: String,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<Option<Saga>>, Refusal>> {
        if let Err(refusal) = self.writable("sagas.load")? {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = owned(self, &saga_type, None) {
            return Ok(Err(refusal));
        }
        load(self, saga_type, keys).await.map(Ok)
    }

    async fn advance(&mut self, transitions: Vec<AskedTransition>) -> wasmtime::Result<Result<(), Refusal>> {
        if let Err(refusal) = self.writable("sagas.advance")? {
            return Ok(Err(refusal));
        }
        Ok(transitions.into_iter().try_for_each(|asked| advance(self, asked)))
    }
}

fn owned(guest: &Guest, saga_type: &str, cause: Option<u32>) -> Result<(), Refusal> {
    if guest.grant.sagas.iter().any(|owned| owned == saga_type) {
        return Ok(());
    }
    Err(refuse(SAGA_NOT_OWNED, cause, format!("describe() does not list the saga type {saga_type:?}")))
}

/// Refuses text that is empty or that Postgres cannot store, and data that is not JSON. A lone surrogate is
/// allowed in JSON, but it is no text: the host would store what neither a plugin nor a person can read.
fn well_formed(cause: u32, texts: &[&str], json: Option<&str>) -> Result<(), Refusal> {
    if texts.iter().any(|text| text.is_empty() || text.contains('\0')) {
        return Err(refuse(MALFORMED, Some(cause), "a key, state or event is empty or contains NUL"));
    }
    let Some(json) = json else { return Ok(()) };
    let mut checked = serde_json::from_str::<IgnoredAny>(json).map(drop);
    // Only an escape can be a surrogate, and only a value that is built is checked for it.
    if json.contains(r"\u") && checked.is_ok() {
        checked = serde_json::from_str::<serde_json::Value>(json).map(drop);
    }
    checked.map_err(|error| refuse(MALFORMED, Some(cause), format!("data or answer is not JSON: {error}")))
}

/// Refuses a time that Postgres cannot store or that no person can read.
pub(super) fn known_time(cause: u32, microseconds: i64) -> Result<(), Refusal> {
    if YEARS_1_TO_9999_US.contains(&microseconds) {
        return Ok(());
    }
    let message = format!("{microseconds} microseconds since 1970 are not in the years 1 to 9999");
    Err(refuse(MALFORMED, Some(cause), message))
}

fn start(guest: &mut Guest, asked: AskedNewSaga) -> Result<(), Refusal> {
    let cause = Some(asked.cause);
    guest.known_cause(asked.cause)?;
    owned(guest, &asked.saga_type, cause)?;
    well_formed(asked.cause, &[&asked.key, &asked.state], Some(&asked.data))?;
    known_time(asked.cause, asked.deadline)?;
    let name = (asked.saga_type.clone(), asked.key.clone());
    if guest.revisions.contains_key(&name) {
        return Err(refuse(
            SAGA_CONFLICT,
            cause,
            format!("the saga {}/{} exists", asked.saga_type, asked.key),
        ));
    }
    guest.reserve(asked.key.len() + asked.state.len() + asked.data.len() + OVERHEAD_BYTES, cause)?;
    guest.revisions.insert(name, Some(1));
    guest.effects.started.push(NewSaga {
        cause: asked.cause,
        saga_type: asked.saga_type,
        key: asked.key,
        state: asked.state,
        data: asked.data,
        deadline: asked.deadline,
    });
    Ok(())
}

fn advance(guest: &mut Guest, asked: AskedTransition) -> Result<(), Refusal> {
    let cause = Some(asked.cause);
    if [STARTED, OVERDUE].contains(&&*asked.event) {
        return Err(refuse(MALFORMED, cause, format!("only the host writes the event {}", asked.event)));
    }
    guest.known_cause(asked.cause)?;
    owned(guest, &asked.saga_type, cause)?;
    well_formed(asked.cause, &[&asked.key, &asked.state, &asked.event], asked.data.as_deref())?;
    let status = status(asked.cause, asked.status)?;
    let name = (asked.saga_type, asked.key);
    let known = guest.revisions.get(&name).copied();
    if let Some(at) = known.filter(|revision| *revision != Some(asked.expected_revision)) {
        let at = at.map_or("it has ended".to_owned(), |revision| format!("it is at revision {revision}"));
        let message = format!("the saga {}/{} at revision {}: {at}", name.0, name.1, asked.expected_revision);
        return Err(refuse(SAGA_CONFLICT, cause, message));
    }
    let data_bytes = asked.data.as_ref().map_or(0, String::len);
    guest
        .reserve(name.1.len() + asked.state.len() + asked.event.len() + data_bytes + OVERHEAD_BYTES, cause)?;
    let next = matches!(status, Status::Until(_)).then(|| asked.expected_revision.saturating_add(1));
    guest.revisions.insert(name.clone(), next);
    guest.effects.transitions.push(Transition {
        cause: asked.cause,
        saga_type: name.0,
        key: name.1,
        expected_revision: asked.expected_revision,
        event: asked.event,
        state: asked.state,
        data: asked.data,
        status,
    });
    Ok(())
}

fn status(cause: u32, asked: AskedStatus) -> Result<Status, Refusal> {
    let finish = match asked {
        AskedStatus::Until(at) => return known_time(cause, at).map(|()| Status::Until(at)),
        AskedStatus::Finished(finish) => finish,
    };
    well_formed(cause, &[], finish.answer.as_deref())?;
    let ending = match finish.ending {
        AskedEnding::Completed => Ending::Completed,
        AskedEnding::Compensated => Ending::Compensated,
        AskedEnding::Failed => Ending::Failed,
    };
    Ok(Status::Finished(Finish { ending, answer: finish.answer }))
}

/// A row of `saga.lock_sagas`: type, key, version, revision, state, data, start and deadline.
type LockedSagaRow = (String, String, String, i64, String, String, i64, i64);

async fn load(
    guest: &mut Guest,
    saga_type: String,
    keys: Vec<String>,
) -> wasmtime::Result<Vec<Option<Saga>>> {
    guest.start_statement()?;
    let Some(session) = &mut guest.session else {
        wasmtime::bail!("sagas.load without a session");
    };
    // Postgres stores no NUL: no saga has such a key.
    let possible: Vec<&String> = keys.iter().filter(|key| !key.contains('\0')).collect();
    let bytes_max = guest.grant.limits.result_bytes_max;
    let rows = match locked(&mut session.connection, &saga_type, &possible, bytes_max).await {
        Ok(Some(rows)) => rows,
        Ok(None) => {
            let message = format!("sagas.load: more than result_bytes_max = {bytes_max} bytes of sagas");
            return Err(OverLimit(message).into());
        }
        Err(error) => {
            let sqlstate = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
            let cause = Statement::HostLocks.cause(&sqlstate, ends_session(&error));
            guest.fail_statement(SqlFailure { cause, sqlstate, message: error.to_string() });
            return Err(error.into());
        }
    };
    guest.end_statement();
    let found: HashMap<String, Saga> = rows.into_iter().map(|row| (row.1.clone(), saga(row))).collect();
    for (key, saga) in &found {
        guest.revisions.entry((saga_type.clone(), key.clone())).or_insert(Some(saga.revision));
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// Locks sagas and reads them; none when they have more than `bytes_max` bytes.
async fn locked(
    connection: &mut PgConnection,
    saga_type: &str,
    keys: &[&String],
    bytes_max: usize,
) -> Result<Option<Vec<LockedSagaRow>>, sqlx::Error> {
    let mut found = sqlx::query_as::<_, LockedSagaRow>("SELECT * FROM saga.lock_sagas($1, $2)")
        .bind(saga_type)
        .bind(keys)
        .fetch(connection);
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = found.try_next().await? {
        bytes += row.1.len() + row.4.len() + row.5.len() + OVERHEAD_BYTES;
        if bytes > bytes_max {
            return Ok(None);
        }
        rows.push(row);
    }
    Ok(Some(rows))
}

fn saga((saga_type, key, _version, revision, state, data, started_at, next_at): LockedSagaRow) -> Saga {
    let revision = u64::try_from(revision).unwrap_or(0);
    Saga { saga_type, key, revision, state, data, status: AskedStatus::Until(next_at), started_at }
}

#[cfg(test)]
mod tests {
    use super::{known_time, well_formed};

    #[test]
    fn json_that_is_no_text_is_refused_and_the_rest_is_stored_as_it_is() {
        for (json, stored) in [
            (r#"{"a":"b"}"#, true),
            (r#"{"a":"\u0000\u00e9"}"#, true),
            (r#"{"a":"\ud83d\ude00"}"#, true),
            (r#"{"a":"\ud83d"}"#, false),
            (r#"{"a":"\ude00x"}"#, false),
            (r#"{"\ud800":1}"#, false),
            ("{\"a\":\"\0\"}", false),
            ("{", false),
        ] {
            let refused = well_formed(0, &[], Some(json)).err();
            assert_eq!(refused.is_none(), stored, "{json:?}: {refused:?}");
        }
        assert!(well_formed(0, &["a\0b"], None).is_err());
    }

    #[test]
    fn times_beyond_the_calendar_are_refused() {
        for (at, known) in [(0, true), (i64::MAX, false), (i64::MIN, false), (253_402_300_799_999_999, true)]
        {
            assert_eq!(known_time(0, at).is_ok(), known, "{at}");
        }
    }
}
