//! Lifts the result of a call: WIT results → outcomes or responses of the host, or a fault with its culprits.
//! Pure.

use std::collections::HashSet;

use super::{saga_conflict, trap};
use crate::{
    capability::guest::{Guest, SqlFailure},
    model::{
        bindings::{
            exports::saga::plugin::{deliveries as wit, requests},
            saga::plugin::types::Failure,
        },
        effects::Effects,
        fault::{Culprit, Fault, ParkedUntil},
        outcome::Outcome,
        request::Response,
        saga::LiveSaga,
        sqlstate::Cause,
    },
};

/// Takes one answer for each delivery or request from what the guest returned. An error that Postgres has
/// reported during the call decides first, since the guest may have hidden it.
///
/// # Errors
/// The fault: Postgres's, the guest's, or that of the culprits which the guest names.
pub(super) fn answers<T>(
    guest: &Guest,
    returned: wasmtime::Result<Result<Vec<T>, Failure>>,
) -> Result<Vec<T>, Fault> {
    if let Some(SqlFailure { cause, sqlstate, message }) = &guest.sql_error
        && *cause != Cause::Guest
    {
        return Err(Fault::of_cause(*cause, format!("{sqlstate}: {message}")));
    }
    match (returned, &guest.sql_error) {
        (Err(error), _) => {
            let call_bytes_max = guest.grant.limits.call_bytes_max;
            Err(Fault::Guest(trap::reason(&error, &guest.output.text(), call_bytes_max)))
        }
        (Ok(Err(failure)), sql_error) => Err(failure_fault(failure, guest.causes, sql_error.as_ref())),
        (Ok(Ok(_)), Some(SqlFailure { sqlstate, message, .. })) => Err(Fault::Guest(format!(
            "returned success after a failed statement ({sqlstate}: {message}), which aborts the \
             transaction; return a failure instead"
        ))),
        (Ok(Ok(answers)), None) if answers.len() != guest.causes as usize => {
            Err(Fault::Guest(format!("gave {} answers to a batch of {}", answers.len(), guest.causes)))
        }
        (Ok(Ok(answers)), None) => Ok(answers),
    }
}

/// The fault of a failure that the guest returned. Without culprits the unit finds the culprit by halving
/// the batch.
fn failure_fault(failure: Failure, causes: u32, sql_error: Option<&SqlFailure>) -> Fault {
    let message = match sql_error {
        Some(error) if !failure.message.contains(&error.message) => {
            format!("{} ({}: {})", failure.message, error.sqlstate, error.message)
        }
        _ => failure.message,
    };
    if let Some(beyond) = failure.culprits.iter().find(|culprit| culprit.cause >= causes) {
        return Fault::Guest(format!("{message} (it names culprit {} in a batch of {causes})", beyond.cause));
    }
    if failure.culprits.is_empty() {
        return Fault::Guest(message);
    }
    let culprits = failure
        .culprits
        .into_iter()
        .map(|named| culprit(named.cause, format!("{}: {}", named.code, named.message)));
    Fault::Culprits(culprits.collect())
}

/// A culprit that is retried after a backoff.
pub(super) fn culprit(cause: u32, reason: String) -> Culprit {
    Culprit { cause: cause as usize, reason, until: ParkedUntil::Backoff }
}

pub(super) fn outcome(outcome: wit::Outcome) -> Outcome {
    match outcome {
        wit::Outcome::Done => Outcome::Done,
        wit::Outcome::Ignored(reason) => Outcome::Ignored(reason),
        wit::Outcome::Retry(delay) => Outcome::Retry { after_ms: delay.after_ms, reason: delay.reason },
        wit::Outcome::Reject(reason) => Outcome::Reject(reason),
    }
}

pub(super) fn response(response: requests::Response) -> Response {
    Response {
        status: response.status,
        headers: response.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        body: response.body,
        saga: response.saga.map(|saga| (saga.saga_type, saga.key)),
    }
}

/// Checks that only deliveries that are done have effects, and that transitions fit the sagas of the batch.
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
                let name = match outcome {
                    Outcome::Done => return None,
                    Outcome::Ignored(_) => "ignored",
                    Outcome::Retry { .. } => "retry",
                    Outcome::Reject(_) => "reject",
                };
                Some(culprit(cause, format!("the plugin returned `{name}`, but also effects")))
            },
        ));
    }
    culprits.extend(saga_conflict::culprits(effects, sagas));
    unless_culprits(outcomes, culprits)
}

/// Makes a culprit of each request with a 5xx status, an invalid status, or a 4xx status in spite of effects.
pub(super) fn responses(responses: Vec<Response>, effects: &Effects) -> Result<Vec<Response>, Fault> {
    let causes = causes(effects);
    let culprits = (0..).zip(&responses).filter_map(|(cause, response)| {
        let status = response.status;
        if response
            .saga
            .as_ref()
            .is_some_and(|(saga_type, key)| [saga_type, key].iter().any(|text| text.contains('\0')))
        {
            return Some(culprit(
                cause,
                "the plugin answered about a saga whose name contains NUL".to_owned(),
            ));
        }
        let reason = match status {
            200..=399 => return None,
            400..=499 if !causes.contains(&cause) => return None,
            400..=499 => format!("the plugin returned status {status}, but also effects"),
            500..=599 => {
                trap::truncate(&format!("status {status}: {}", String::from_utf8_lossy(&response.body)))
            }
            _ => format!("the plugin returned status {status}, which is no HTTP status"),
        };
        Some(culprit(cause, reason))
    });
    let culprits = culprits.collect();
    unless_culprits(responses, culprits)
}

/// The answers when there are no culprits; else the fault, with each culprit once.
fn unless_culprits<T>(answers: T, mut culprits: Vec<Culprit>) -> Result<T, Fault> {
    if culprits.is_empty() {
        return Ok(answers);
    }
    culprits.sort_by_key(|culprit| culprit.cause);
    culprits.dedup_by_key(|culprit| culprit.cause);
    Err(Fault::Culprits(culprits))
}

/// The deliveries or requests that have effects.
fn causes(effects: &Effects) -> HashSet<u32> {
    let Effects { published, started, transitions, timers, cancelled: _ } = effects;
    let sagas = started.iter().map(|e| e.cause).chain(transitions.iter().map(|e| e.cause));
    published.iter().map(|e| e.cause).chain(sagas).chain(timers.iter().map(|e| e.cause)).collect()
}

#[cfg(test)]
mod tests {
    use super::{failure_fault, outcomes, responses};
    use crate::model::{
        bindings::saga::plugin::types::{Culprit, Failure},
        effects::{Effects, Outgoing},
        fault::Fault,
        outcome::Outcome,
        request::Response,
    };

    fn published(cause: u32) -> Effects {
        let (topic, event_type, content_type) = ("t".to_owned(), String::new(), String::new());
        let message =
            Outgoing { cause, topic, key: None, event_type, content_type, headers: vec![], payload: None };
        Effects { published: vec![message], ..Effects::default() }
    }

    fn culprits_of<T>(result: Result<T, Fault>) -> Vec<usize> {
        match result {
            Err(Fault::Culprits(culprits)) => culprits.iter().map(|culprit| culprit.cause).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn only_what_is_done_may_have_effects() {
        let answered = || vec![Outcome::Done, Outcome::Ignored("late".to_owned())];
        assert_eq!(culprits_of(outcomes(answered(), &published(0), &[])), [0_usize; 0]);
        assert_eq!(culprits_of(outcomes(answered(), &published(1), &[])), [1]);
    }

    #[test]
    fn statuses_decide_which_requests_are_culprits() {
        let of = |statuses: &[u16]| {
            statuses
                .iter()
                .map(|status| Response { status: *status, ..Response::default() })
                .collect::<Vec<_>>()
        };
        assert_eq!(culprits_of(responses(of(&[200, 404, 201]), &published(0))), [0_usize; 0]);
        assert_eq!(culprits_of(responses(of(&[200, 404, 503, 99]), &published(1))), [1, 2, 3]);
    }

    #[test]
    fn a_failure_names_valid_culprits_or_is_the_guests_fault() {
        let failure = |causes: &[u32]| Failure {
            message: "no".to_owned(),
            culprits: causes
                .iter()
                .map(|cause| Culprit { cause: *cause, code: "c".to_owned(), message: "m".to_owned() })
                .collect(),
        };
        assert_eq!(culprits_of(Err::<(), _>(failure_fault(failure(&[0, 2]), 3, None))), [0, 2]);
        assert!(matches!(failure_fault(failure(&[]), 3, None), Fault::Guest(message) if message == "no"));
        assert!(matches!(failure_fault(failure(&[3]), 3, None), Fault::Guest(_)));
    }
}
