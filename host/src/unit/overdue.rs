//! Deadlines that a plugin did not act on: the host marks the saga as overdue and sets the next deadline,
//! with growing pauses. It never compensates: what the saga asked for may have happened.

use super::materialize::{Caused, OVERDUE_EVENT};
use crate::model::{
    effects::{Effects, Status, Transition},
    saga::LiveSaga,
};

/// The shortest pause before the next deadline of an overdue saga.
const PAUSE_US_MIN: i64 = 30_000_000;
/// The longest.
const PAUSE_US_MAX: i64 = 3_600_000_000;

/// Adds a transition for each deadline among `causes` whose saga has no other transition.
pub(super) fn mark(sagas: &[LiveSaga], causes: &[Caused<'_>], now_us: i64, effects: &mut Effects) {
    for (place, caused) in causes.iter().enumerate() {
        if caused.cause.kind != "deadline" {
            continue;
        }
        let due = sagas
            .iter()
            .find(|saga| deadline_id(&saga.saga_type, &saga.key, saga.revision) == caused.cause.id);
        let Some(saga) = due else { continue };
        let moved = effects.transitions.iter().any(|t| t.saga_type == saga.saga_type && t.key == saga.key);
        if moved {
            continue;
        }
        effects.transitions.push(Transition {
            cause: u32::try_from(place).unwrap_or(u32::MAX),
            saga_type: saga.saga_type.clone(),
            key: saga.key.clone(),
            expected_revision: saga.revision.cast_unsigned(),
            event: OVERDUE_EVENT.to_owned(),
            state: saga.state.clone(),
            data: None,
            status: Status::Until(now_us + pause_us(now_us - saga.began_us)),
        });
    }
}

/// The id of a deadline's delivery.
pub(crate) fn deadline_id(saga_type: &str, key: &str, revision: i64) -> String {
    format!("deadline/{saga_type}/{key}/{revision}")
}

/// As long as the saga is old: its age doubles with each deadline.
fn pause_us(age_us: i64) -> i64 {
    age_us.clamp(PAUSE_US_MIN, PAUSE_US_MAX)
}
