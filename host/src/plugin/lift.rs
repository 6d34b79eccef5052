//! What a call's end means: its answers, or whose fault it is that there are none. Pure.

use std::collections::{HashMap, HashSet};

use super::check::WIT_VERSION;
use crate::{
    capability::guest::{Guest, OverLimit, SqlFailure},
    model::{
        bindings::saga::plugin::types::Failure,
        effects::Effects,
        fault::{Culprit, Fault, ParkedUntil, is_environment},
        outcome::Outcome,
        request::Response,
        saga::LiveSaga,
    },
};

/// Of a response's body, or of what a guest printed, in a message.
const QUOTED_CHARS_MAX: usize = 500;

/// From what the guest returned to one answer each, or a fault. What Postgres reported during the
/// call comes first: the guest may have said anything about it.
pub(super) fn answers<T>(
    guest: &Guest,
    returned: wasmtime::Result<Result<Vec<T>, Failure>>,
) -> Result<Vec<T>, Fault> {
    if let Some(SqlFailure { sqlstate, message }) = &guest.sql_error
        && is_environment(sqlstate)
    {
        return Err(Fault::Environment(format!("{sqlstate}: {message}")));
    }
    match returned {
        Err(error) => {
            Err(Fault::Guest(stopped(&error, &guest.output.text(), guest.grant.limits.call_bytes_max)))
        }
        Ok(Err(failure)) => Err(blamed(failure, guest.causes, guest.sql_error.as_ref())),
        Ok(Ok(_)) if guest.sql_error.is_some() => {
            let SqlFailure { sqlstate, message } = guest.sql_error.clone().unwrap_or_default();
            Err(Fault::Guest(format!(
                "answered as if done after a failed statement ({sqlstate}: {message}): the transaction is lost, \
                 return a failure"
            )))
        }
        Ok(Ok(answers)) if answers.len() != guest.causes as usize => {
            Err(Fault::Guest(format!("gave {} answers to a batch of {}", answers.len(), guest.causes)))
        }
        Ok(Ok(answers)) => Ok(answers),
    }
}

/// Why a guest stopped, for a person: the limit that it ran into, or its panic and the trap.
pub(super) fn stopped(error: &wasmtime::Error, printed: &str, call_bytes_max: usize) -> String {
    if let Some(limit) = error.downcast_ref::<OverLimit>() {
        return limit.to_string();
    }
    let trap = match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(exit) => format!("it called exit({})", exit.0),
            None => error.root_cause().to_string(),
        },
    };
    if trap.contains("fuel") {
        return format!("hands over more than call_bytes_max = {call_bytes_max} bytes in one call");
    }
    match panic_of(printed) {
        Some(panic) => format!("{panic}; {trap}"),
        None => trap,
    }
}

/// The last panic that was printed: `panicked at src/lib.rs:7:5: message`.
fn panic_of(printed: &str) -> Option<String> {
    let begin = printed.rfind("panicked at ")?;
    let lines = printed.get(begin..)?.lines().take_while(|line| !line.starts_with("note: "));
    let text = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    Some(cut(&text))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn blamed(failure: Failure, causes: u32, sql_error: Option<&SqlFailure>) -> Fault {
    let message = match sql_error {
        Some(error) if !failure.message.contains(&error.message) => {
            format!("{} ({}: {})", failure.message, error.sqlstate, error.message)
        }
        _ => failure.message,
    };
    if let Some(beyond) = failure.culprits.iter().find(|culprit| culprit.cause >= causes) {
        return Fault::Guest(format!("{message} (it blames {} in a batch of {causes})", beyond.cause));
    }
    if failure.culprits.is_empty() {
        return Fault::Guest(message);
    }
    let culprits = failure
        .culprits
        .into_iter()
        .map(|culprit| retried(culprit.cause, format!("{}: {}", culprit.code, culprit.message)));
    Fault::Culprits(culprits.collect())
}

fn retried(cause: u32, reason: String) -> Culprit {
    Culprit { cause: cause as usize, reason, until: ParkedUntil::Backoff }
}

/// Outcomes other than done must have no effects; transitions must fit the sagas of the batch.
pub(super) fn outcomes(
    outcomes: Vec<Outcome>,
    effects: &Effects,
    sagas: &[LiveSaga],
) -> Result<Vec<Outcome>, Fault> {
    let mut culprits = Vec::new();
    if outcomes.iter().any(|outcome| *outcome != Outcome::Done) {
        let causes = causes(effects);
        culprits.extend((0..).zip(&outcomes).filter(|(cause, _)| causes.contains(cause)).filter_map(
            |(cause, outcome)| {
                let said = match outcome {
                    Outcome::Done => return None,
                    Outcome::Ignored(_) => "ignored",
                    Outcome::Retry { .. } => "retry",
                    Outcome::Reject(_) => "reject",
                };
                Some(retried(cause, format!("the plugin answered {said}, but had asked for effects")))
            },
        ));
    }
    culprits.extend(conflicts(effects, sagas));
    none_or_blamed(culprits, outcomes)
}

/// A 5xx, or a status that is none, takes its request out; a 4xx must have no effects.
pub(super) fn responses(responses: Vec<Response>, effects: &Effects) -> Result<Vec<Response>, Fault> {
    let causes = causes(effects);
    let wrong = (0..).zip(&responses).filter_map(|(cause, response)| {
        let status = response.status;
        let reason = match status {
            200..=399 => return None,
            400..=499 if !causes.contains(&cause) => return None,
            400..=499 => format!("the plugin answered {status}, but had asked for effects"),
            500..=599 => cut(&format!("status {status}: {}", String::from_utf8_lossy(&response.body))),
            _ => format!("the plugin answered {status}, which is no HTTP status"),
        };
        Some(retried(cause, reason))
    });
    none_or_blamed(wrong.collect(), responses)
}

fn none_or_blamed<T>(mut culprits: Vec<Culprit>, answers: T) -> Result<T, Fault> {
    if culprits.is_empty() {
        return Ok(answers);
    }
    culprits.sort_by_key(|culprit| culprit.cause);
    culprits.dedup_by_key(|culprit| culprit.cause);
    Err(Fault::Culprits(culprits))
}

fn causes(effects: &Effects) -> HashSet<u32> {
    let Effects { published, begun, transitions, timers, cancelled: _ } = effects;
    let sagas = begun.iter().map(|e| e.cause).chain(transitions.iter().map(|e| e.cause));
    published.iter().map(|e| e.cause).chain(sagas).chain(timers.iter().map(|e| e.cause)).collect()
}

/// The first step of each saga must begin where its row stands; later ones were judged when the
/// guest asked.
fn conflicts(effects: &Effects, sagas: &[LiveSaga]) -> Vec<Culprit> {
    if sagas.is_empty() || (effects.transitions.is_empty() && effects.begun.is_empty()) {
        return Vec::new();
    }
    let mut standing: HashMap<(&str, &str), i64> =
        sagas.iter().map(|saga| ((saga.saga_type.as_str(), saga.key.as_str()), saga.revision)).collect();
    let mut culprits = Vec::new();
    for begun in &effects.begun {
        if standing.contains_key(&(begun.saga_type.as_str(), begun.key.as_str())) {
            culprits.push(retried(
                begun.cause,
                format!("saga-conflict: {}/{} exists", begun.saga_type, begun.key),
            ));
        }
    }
    for step in &effects.transitions {
        let Some(revision) = standing.remove(&(step.saga_type.as_str(), step.key.as_str())) else { continue };
        if u64::try_from(revision) != Ok(step.expected_revision) {
            let expected = step.expected_revision;
            let reason = format!(
                "saga-conflict: {}/{} is at revision {revision}, not {expected}",
                step.saga_type, step.key
            );
            culprits.push(retried(step.cause, reason));
        }
    }
    culprits
}

/// What the linker misses is something that a later host has.
pub(super) fn unlinked(error: &wasmtime::Error) -> String {
    format!("needs something of saga:plugin that this host, {WIT_VERSION}, does not have: {:#}", error)
}

#[cfg(test)]
mod tests {
    use super::{blamed, outcomes, panic_of, responses};
    use crate::model::{
        bindings::saga::plugin::types::{Culprit, Failure},
        effects::{Effects, Outgoing, Status, Transition},
        fault::Fault,
        outcome::Outcome,
        request::Response,
        saga::LiveSaga,
    };

    fn published(cause: u32) -> Effects {
        let (topic, event_type, content_type) = ("t".to_owned(), String::new(), String::new());
        let message =
            Outgoing { cause, topic, key: None, event_type, content_type, headers: vec![], payload: None };
        Effects { published: vec![message], ..Effects::default() }
    }

    fn places<T>(result: Result<T, Fault>) -> Vec<usize> {
        match result {
            Err(Fault::Culprits(culprits)) => culprits.iter().map(|culprit| culprit.cause).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn only_what_is_done_may_have_effects() {
        let answered = || vec![Outcome::Done, Outcome::Ignored("late".to_owned())];
        assert_eq!(places(outcomes(answered(), &published(0), &[])), [0_usize; 0]);
        assert_eq!(places(outcomes(answered(), &published(1), &[])), [1]);
    }

    #[test]
    fn statuses_decide_who_is_taken_out() {
        let of = |statuses: &[u16]| {
            statuses
                .iter()
                .map(|status| Response { status: *status, ..Response::default() })
                .collect::<Vec<_>>()
        };
        assert_eq!(places(responses(of(&[200, 404, 201]), &published(0))), [0_usize; 0]);
        assert_eq!(places(responses(of(&[200, 404, 503, 99]), &published(1))), [1, 2, 3]);
    }

    #[test]
    fn the_first_step_of_a_saga_must_fit_its_row() {
        let saga = LiveSaga {
            saga_type: "order".to_owned(),
            key: "k".to_owned(),
            version: String::new(),
            revision: 3,
            state: String::new(),
            data: String::new(),
            began_us: 0,
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
            let done = vec![Outcome::Done, Outcome::Done];
            assert_eq!(places(outcomes(done, &effects, std::slice::from_ref(&saga))), expected);
        }
    }

    #[test]
    fn culprits_are_named_or_the_batch_is_halved() {
        let failure = |causes: &[u32]| Failure {
            message: "no".to_owned(),
            culprits: causes
                .iter()
                .map(|cause| Culprit { cause: *cause, code: "c".to_owned(), message: "m".to_owned() })
                .collect(),
        };
        assert_eq!(places(Err::<(), _>(blamed(failure(&[0, 2]), 3, None))), [0, 2]);
        assert!(matches!(blamed(failure(&[]), 3, None), Fault::Guest(message) if message == "no"));
        assert!(matches!(blamed(failure(&[3]), 3, None), Fault::Guest(_)));
    }

    #[test]
    fn a_panic_is_told_in_one_line() {
        let printed = "x\n\nthread '<unnamed>' (1) panicked at src/lib.rs:7:5:\nno stock\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(panic_of(printed).as_deref(), Some("panicked at src/lib.rs:7:5: no stock"));
        assert_eq!(panic_of("fine\n"), None);
    }
}
