//! Deadlines that pass unanswered: the host marks the saga overdue and sets its next deadline, with growing
//! pauses. It never compensates: what the saga asked for may have happened. The rule is part of the plugin's
//! interface, see `deliveries.source.deadline` in `wit/plugin.wit`.

use super::materialize::EffectCause;
use crate::model::{
    effects::{Effects, Status, Transition},
    saga::LiveSaga,
    saga_log::OVERDUE,
};

/// The shortest pause before the next deadline of an overdue saga, microseconds.
const PAUSE_US_MIN: i64 = 30_000_000;
/// The longest.
const PAUSE_US_MAX: i64 = 3_600_000_000;

/// Adds a transition for each deadline among `causes` whose saga no other transition moves on.
pub(super) fn mark(sagas: &[LiveSaga], causes: &[EffectCause<'_>], now_us: i64, effects: &mut Effects) {
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
            event: OVERDUE.to_owned(),
            state: saga.state.clone(),
            data: None,
            status: Status::Overdue(now_us + pause_us(now_us - saga.started_at_us)),
        });
    }
}

/// The id of a deadline's delivery.
pub(crate) fn deadline_id(saga_type: &str, key: &str, revision: i64) -> String {
    format!("deadline/{saga_type}/{key}/{revision}")
}

/// As long as the saga has existed, within the limits: the age doubles from one deadline to the next.
fn pause_us(age_us: i64) -> i64 {
    age_us.clamp(PAUSE_US_MIN, PAUSE_US_MAX)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{EffectCause, Effects, LiveSaga, OVERDUE, Status, Transition, mark, pause_us};
    use crate::model::{saga_log::Cause, trace::Trace};

    const NOW_US: i64 = 100_000_000;

    fn saga() -> LiveSaga {
        LiveSaga {
            saga_type: "order".to_owned(),
            key: "k".to_owned(),
            version: String::new(),
            revision: 3,
            state: "PAYING".to_owned(),
            data: "{}".to_owned(),
            started_at_us: NOW_US - 40_000_000,
            next_at_us: NOW_US,
        }
    }

    fn caused(kind: &'static str, id: &'static str) -> EffectCause<'static> {
        let (kind, id) = (Cow::Borrowed(kind), Cow::Borrowed(id));
        let cause = Cause { kind, id, topic: None, partition: None, offset: None };
        EffectCause { cause, digest: "", trace: Trace::start() }
    }

    fn marked(causes: &[EffectCause<'_>], transitions: Vec<Transition>) -> Vec<Transition> {
        let before = transitions.len();
        let mut effects = Effects { transitions, ..Effects::default() };
        mark(&[saga()], causes, NOW_US, &mut effects);
        effects.transitions.split_off(before)
    }

    #[test]
    fn a_deadline_that_nothing_answers_marks_its_saga_overdue() {
        let added = marked(&[caused("kafka", "r"), caused("deadline", "deadline/order/k/3")], Vec::new());
        let [overdue] = &added[..] else { unreachable!("one transition") };
        assert_eq!((overdue.cause, overdue.expected_revision, &*overdue.event), (1, 3, OVERDUE));
        assert_eq!((&*overdue.state, &overdue.data), ("PAYING", &None));
        assert_eq!(overdue.status, Status::Overdue(NOW_US + 40_000_000));
    }

    #[test]
    fn a_saga_that_moves_on_is_not_overdue() {
        let due = [caused("deadline", "deadline/order/k/3")];
        let moved = marked(&due, Vec::new()).pop().into_iter().collect();
        assert_eq!(marked(&due, moved), []);
        assert_eq!(marked(&[caused("deadline", "deadline/order/k/2")], Vec::new()), []);
    }

    #[test]
    fn pauses_grow_from_30_seconds_to_an_hour() {
        for (age_s, pause_s) in [(1, 30), (30, 30), (61, 61), (3_599, 3_599), (90_000, 3_600)] {
            assert_eq!(pause_us(age_s * 1_000_000), pause_s * 1_000_000, "after {age_s} s");
        }
    }
}
