//! Finds the effects of a call that do not fit the sagas of its batch. Pure.

use std::collections::HashMap;

use super::lift::culprit;
use crate::model::{effects::Effects, fault::Culprit, saga::LiveSaga};

/// The culprits that start a saga which exists, or whose first transition of a saga expects another revision
/// than that of its row. Later transitions were checked when the guest requested them.
pub(super) fn culprits(effects: &Effects, sagas: &[LiveSaga]) -> Vec<Culprit> {
    if sagas.is_empty() || (effects.transitions.is_empty() && effects.started.is_empty()) {
        return Vec::new();
    }
    let mut revisions: HashMap<(&str, &str), i64> =
        sagas.iter().map(|saga| ((saga.saga_type.as_str(), saga.key.as_str()), saga.revision)).collect();
    let mut culprits = Vec::new();
    for started in &effects.started {
        if revisions.contains_key(&(started.saga_type.as_str(), started.key.as_str())) {
            culprits.push(culprit(
                started.cause,
                format!("saga-conflict: {}/{} exists", started.saga_type, started.key),
            ));
        }
    }
    for step in &effects.transitions {
        let Some(revision) = revisions.remove(&(step.saga_type.as_str(), step.key.as_str())) else {
            continue;
        };
        if u64::try_from(revision) != Ok(step.expected_revision) {
            let expected = step.expected_revision;
            let reason = format!(
                "saga-conflict: {}/{} is at revision {revision}, not {expected}",
                step.saga_type, step.key
            );
            culprits.push(culprit(step.cause, reason));
        }
    }
    culprits
}

#[cfg(test)]
mod tests {
    use super::culprits;
    use crate::model::{
        effects::{Effects, Status, Transition},
        saga::LiveSaga,
    };

    #[test]
    fn the_first_transition_of_a_saga_must_expect_the_revision_of_its_row() {
        let saga = LiveSaga {
            saga_type: "order".to_owned(),
            key: "k".to_owned(),
            version: String::new(),
            revision: 3,
            state: String::new(),
            data: String::new(),
            started_at_us: 0,
            next_at_us: 0,
        };
        let step = |cause, expected_revision| Transition {
            cause,
            saga_type: "order".to_owned(),
            key: "k".to_owned(),
            expected_revision,
            event: String::new(),
            state: String::new(),
            data: None,
            status: Status::Until(0),
        };
        for (steps, expected) in [(vec![step(0, 3), step(1, 4)], vec![]), (vec![step(1, 2)], vec![1])] {
            let effects = Effects { transitions: steps, ..Effects::default() };
            let culprits = culprits(&effects, std::slice::from_ref(&saga));
            assert_eq!(culprits.iter().map(|culprit| culprit.cause).collect::<Vec<_>>(), expected);
        }
    }
}
