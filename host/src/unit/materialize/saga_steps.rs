//! Transitions of sagas become rows: all transitions of one saga in a unit become one step or one end.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{EndedSaga, LogLines, cause_of, place};
use crate::{
    model::effects::{Ending, Finish, Status, Transition},
    unit::{
        rows::{SagaEndRow, SagaStepRow},
        writes::UnitWrites,
    },
};

/// What the unit does to one saga.
struct Step {
    /// Place in the call of what caused the first transition.
    cause: usize,
    row: SagaStepRow,
    /// Set when the saga ends.
    finish: Option<Finish>,
}

/// Adds the rows to `writes`; returns the sagas that end.
pub(super) fn add(
    log: &LogLines<'_>,
    transitions: Vec<Transition>,
    writes: &mut UnitWrites,
) -> Vec<EndedSaga> {
    let mut ended = Vec::new();
    for Step { cause, row, finish } in merged(log, transitions) {
        let Some(finish) = finish else {
            writes.saga_steps.push(cause, row);
            continue;
        };
        let (saga_type, key) = (row.saga_type.clone(), row.key.clone());
        ended.push(EndedSaga {
            saga_type,
            key,
            ending: ending(finish.ending),
            answer: finish.answer.clone(),
        });
        writes.saga_ends.push(cause, end(row, finish));
    }
    ended
}

/// One step for each saga, in the order of the sagas' first transitions.
fn merged(log: &LogLines<'_>, transitions: Vec<Transition>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(transitions.len());
    // Places in `steps`, by type and key.
    let mut places: HashTable<usize> = HashTable::with_capacity(transitions.len());
    let hasher = RandomState::new();
    let hash_of = |row: &SagaStepRow| hasher.hash_one((&row.saga_type, &row.key));
    for transition in transitions {
        let next = Step::of(log, transition);
        let hash = hash_of(&next.row);
        let same = |place: &usize| is_same_saga(&steps[*place].row, &next.row);
        match places.find(hash, same).copied() {
            Some(place) => steps[place].append(next),
            None => {
                places.insert_unique(hash, steps.len(), |place| hash_of(&steps[*place].row));
                steps.push(next);
            }
        }
    }
    steps
}

fn is_same_saga(one: &SagaStepRow, other: &SagaStepRow) -> bool {
    one.key == other.key && one.saga_type == other.saga_type
}

impl Step {
    fn of(log: &LogLines<'_>, transition: Transition) -> Self {
        let expected_revision = i64::try_from(transition.expected_revision).unwrap_or(i64::MAX);
        let new_revision = expected_revision.saturating_add(1);
        // The host marks a saga overdue: no version has moved it on, and it stays with the one that did.
        let overdue = matches!(transition.status, Status::Overdue(_));
        let handler = cause_of(log.causes, transition.cause).filter(|_| !overdue);
        let (next_at_us, finish) = match transition.status {
            Status::Until(next_at_us) | Status::Overdue(next_at_us) => (next_at_us, None),
            Status::Finished(finish) => (0, Some(finish)),
        };
        let row = SagaStepRow {
            log: log.line(transition.cause, &transition.event, &transition.state, new_revision),
            digest: handler.map(|caused| caused.digest.to_owned()),
            saga_type: transition.saga_type,
            key: transition.key,
            expected_revision,
            new_revision,
            state: transition.state,
            data: transition.data,
            next_at_us,
            overdue,
        };
        Self { cause: place(transition.cause), row, finish }
    }

    /// Adds a later transition of the same saga.
    fn append(&mut self, later: Self) {
        self.row.new_revision = later.row.new_revision;
        self.row.state = later.row.state;
        self.row.data = later.row.data.or(self.row.data.take());
        self.row.next_at_us = later.row.next_at_us;
        self.row.overdue = later.row.overdue;
        self.row.log.push_str(&later.row.log);
        self.row.digest = later.row.digest.or(self.row.digest.take());
        self.finish = later.finish;
    }
}

fn end(row: SagaStepRow, finish: Finish) -> SagaEndRow {
    SagaEndRow {
        saga_type: row.saga_type,
        key: row.key,
        expected_revision: row.expected_revision,
        new_revision: row.new_revision,
        state: row.state,
        data: row.data,
        ending: ending(finish.ending),
        answer: finish.answer,
        log: row.log,
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Compensated => "compensated",
        Ending::Failed => "failed",
    }
}
