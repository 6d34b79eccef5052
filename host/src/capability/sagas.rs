//! `sagas`: `start` and `advance` are buffered; `load` runs at once and locks.
//!
//! Revisions are checked where they are known: the transitions of a call against each other here, the first
//! of each saga against its row by [`crate::plugin`] and by `saga.flush`.

use std::collections::HashMap;

use serde::de::IgnoredAny;

use super::{
    guest::Guest,
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
    saga_log::{OVERDUE, STARTED},
};

/// Memory of a saga's effect besides its texts.
const OVERHEAD_BYTES: usize = 160;

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

/// Refuses text that is empty or that Postgres cannot store, and data that is not JSON.
fn well_formed(cause: u32, texts: &[&str], json: Option<&str>) -> Result<(), Refusal> {
    if texts.iter().any(|text| text.is_empty() || text.contains('\0')) {
        return Err(refuse(MALFORMED, Some(cause), "a key, state or event is empty or contains NUL"));
    }
    match json.map(serde_json::from_str::<IgnoredAny>) {
        Some(Err(error)) => {
            Err(refuse(MALFORMED, Some(cause), format!("data or answer is not JSON: {error}")))
        }
        _ => Ok(()),
    }
}

fn start(guest: &mut Guest, asked: AskedNewSaga) -> Result<(), Refusal> {
    let cause = Some(asked.cause);
    guest.known_cause(asked.cause)?;
    owned(guest, &asked.saga_type, cause)?;
    well_formed(asked.cause, &[&asked.key, &asked.state], Some(&asked.data))?;
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
        AskedStatus::Until(at) => return Ok(Status::Until(at)),
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
    let rows: Result<Vec<LockedSagaRow>, sqlx::Error> =
        sqlx::query_as("SELECT * FROM saga.lock_sagas($1, $2)")
            .bind(&saga_type)
            .bind(&keys)
            .fetch_all(&mut session.connection)
            .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            let sqlstate = error.as_database_error().and_then(|e| e.code());
            guest.end_statement(Some((sqlstate.as_deref().unwrap_or("08000"), &error.to_string())));
            return Err(error.into());
        }
    };
    guest.end_statement(None);
    let found: HashMap<String, Saga> = rows.into_iter().map(|row| (row.1.clone(), saga(row))).collect();
    for (key, saga) in &found {
        guest.revisions.entry((saga_type.clone(), key.clone())).or_insert(Some(saga.revision));
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

fn saga((saga_type, key, _version, revision, state, data, started_at, next_at): LockedSagaRow) -> Saga {
    let revision = u64::try_from(revision).unwrap_or(0);
    Saga { saga_type, key, revision, state, data, status: AskedStatus::Until(next_at), started_at }
}
