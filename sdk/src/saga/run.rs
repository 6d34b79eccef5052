//! Applies the replies and deadlines of a batch to their sagas, in order, and stores the rows of the sagas
//! that ended together.

use super::{
    Action, COMPLETE, Ending, FAILED, Next, OnDeadline, Saga, Step, Verdict,
    live::{LiveSaga, saga_of},
    next::{action_of, next},
};
use crate::{
    bindings::saga::plugin::{
        sagas::{Finish, Status, Transition},
        types::Failure,
    },
    effects::Effects,
    input::{Answer, Delivery, Outcome, Source},
    rows::Rows,
    unit::Unit,
};

/// What a saga is to take in.
enum Signal<R> {
    Reply(R),
    Deadline { revision: u64 },
}

pub(crate) fn run<S: Saga>(unit: &mut Unit<'_, Delivery, Outcome>, places: &[u32]) -> Result<(), Failure> {
    let steps = S::steps(unit.effects.context());
    let mut rows = S::Rows::default();
    for &place in places {
        unit.at(place);
        let Some(delivery) = unit.item(place) else { continue };
        let signal = match &delivery.source {
            Source::Deadline(of) => Signal::Deadline { revision: of.revision },
            _ => match unit.decode::<S::Reply>(place) {
                Some(reply) => Signal::Reply(reply),
                None => continue,
            },
        };
        let mark = unit.effects.mark();
        let live = saga_of(&unit.sagas, delivery).and_then(|place| unit.sagas.get_mut(place));
        let outcome = match live.filter(|live| !live.ended && live.saga_type == S::TYPE) {
            Some(live) => apply::<S>(&steps, live, &signal, &mut rows, &mut unit.effects),
            None => Outcome::ignored(format!("no {} is in flight for it: unknown, or ended before", S::TYPE)),
        };
        if outcome.keeps() {
            rows.keep();
        } else {
            rows.undo();
            unit.effects.undo(mark);
        }
        unit.answer(place, outcome);
    }
    if rows.is_changed() {
        S::store(&unit.db(), &rows)?;
    }
    Ok(())
}

fn apply<S: Saga>(
    steps: &[Step<S::Data>],
    live: &mut LiveSaga,
    signal: &Signal<S::Reply>,
    rows: &mut S::Rows,
    effects: &mut Effects<'_>,
) -> Outcome {
    let mut data: S::Data = match serde_json::from_str(&live.data) {
        Ok(data) => data,
        Err(error) => {
            return Outcome::reject(format!("the data of {} {}: {error}", live.saga_type, live.key));
        }
    };
    let verdict = match signal {
        Signal::Reply(reply) => S::judge(&mut data, reply),
        Signal::Deadline { revision } => match missed(steps, live, *revision) {
            Ok(verdict) => verdict,
            Err(outcome) => return outcome,
        },
    };
    match next(steps, &live.state, verdict) {
        Next::Unknown => return unknown(live),
        Next::Stale => {
            let (answered, state) = (verdict.state(), &live.state);
            return Outcome::ignored(format!("late: it answers {answered}, and the saga is in {state}"));
        }
        Next::Run(action) => {
            let Some((state, send, deadline)) = action.of(steps) else { return unknown(live) };
            send(&data, effects);
            live.deadline = effects.now().plus(deadline).0;
            let until = Status::Until(live.deadline);
            advance(live, effects, event_of(verdict), state, &data, until);
        }
        Next::Late => {
            // Only the log changes: the saga waits for the same as before, until the same deadline.
            let (state, until) = (live.state.clone(), Status::Until(live.deadline));
            push(live, effects, format!("{}_LATE", event_of(verdict)), &state, None, until);
        }
        Next::End(ending) => {
            let finished = S::finished(&data, ending, rows, effects);
            let state = if ending == Ending::Failed { FAILED } else { COMPLETE };
            let status = Status::Finished(Finish { ending, answer: finished.answer });
            advance(live, effects, finished.event.to_owned(), state, &data, status);
            live.ended = true;
        }
    }
    Outcome::Done
}

/// What a deadline without a reply says about the step that waits, or the outcome of a deadline that says
/// nothing. The answer `done` without a transition lets the host mark the saga overdue.
fn missed<D>(steps: &[Step<D>], live: &LiveSaga, revision: u64) -> Result<Verdict, Outcome> {
    if revision != live.revision {
        return Err(Outcome::ignored("the saga has moved on since this deadline was set"));
    }
    match action_of(steps, &live.state) {
        None => Err(unknown(live)),
        Some(Action::Do(step)) if steps[step].on_deadline == OnDeadline::Undo => {
            Ok(Verdict::Unknown(steps[step].state))
        }
        Some(Action::Do(_) | Action::Undo(_)) => Err(Outcome::Done),
    }
}

fn event_of(verdict: Verdict) -> String {
    let how = match verdict {
        Verdict::Completed(_) => "COMPLETED",
        Verdict::Failed(_) => "FAILED",
        Verdict::Unknown(_) => "TIMED_OUT",
    };
    format!("{}_{how}", verdict.state())
}

fn unknown(live: &LiveSaga) -> Outcome {
    Outcome::reject(format!(
        "{} {} is in {}, which this version does not know",
        live.saga_type, live.key, live.state
    ))
}

fn advance(
    live: &mut LiveSaga,
    effects: &mut Effects<'_>,
    event: String,
    state: &str,
    data: &impl serde::Serialize,
    status: Status,
) {
    let Some(json) = effects.json(data) else { return };
    let changed = (json != live.data).then_some(json);
    push(live, effects, event, state, changed, status);
}

fn push(
    live: &mut LiveSaga,
    effects: &mut Effects<'_>,
    event: String,
    state: &str,
    changed: Option<String>,
    status: Status,
) {
    effects.transitions.push(Transition {
        cause: effects.context().place(),
        saga_type: live.saga_type.clone(),
        key: live.key.clone(),
        expected_revision: live.revision,
        event,
        state: state.to_owned(),
        data: changed.clone(),
        status,
    });
    live.revision += 1;
    state.clone_into(&mut live.state);
    if let Some(data) = changed {
        live.data = data;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::{Delivery, Ending, OnDeadline, Outcome, Saga, Status, Step, Verdict};
    use crate::{
        Context, Correlation, Db, DbResult, Definition, Effects, Event, Finished,
        bindings::saga::plugin::sagas,
        dispatch::deliveries,
        testing::{NOW_US, Recorded, TestHost, deadline, live, record},
    };

    #[derive(Default, Serialize, Deserialize)]
    struct Trip {
        replies: u32,
    }

    #[derive(Deserialize)]
    struct Reply {
        step: String,
        done: bool,
    }

    const STATES: [&str; 4] = ["HOTEL", "FLIGHT", "CANCEL_HOTEL", "CANCEL_FLIGHT"];

    struct Booking;

    impl Saga for Booking {
        const TYPE: &'static str = "trip";
        type Data = Trip;
        type Reply = Event<Reply>;
        type Rows = ();

        fn steps(_: &Context<'_>) -> Vec<Step<Trip>> {
            let step = |state, undo| {
                Step::new(state, |_: &Trip, _: &mut Effects<'_>| {})
                    .undo(undo, |_: &Trip, effects: &mut Effects<'_>| effects.publish("undo", "undo", 1, &1))
                    .deadline(Duration::from_secs(1))
                    .on_deadline(OnDeadline::Undo)
            };
            vec![step("HOTEL", "CANCEL_HOTEL"), step("FLIGHT", "CANCEL_FLIGHT")]
        }

        fn judge(trip: &mut Trip, Event(reply): &Event<Reply>) -> Verdict {
            trip.replies += 1;
            let state = STATES.into_iter().find(|state| *state == reply.step).unwrap_or("");
            if reply.done { Verdict::Completed(state) } else { Verdict::Failed(state) }
        }

        fn finished(_: &Trip, _: Ending, (): &mut (), _: &mut Effects<'_>) -> Finished {
            Finished { event: "TRIP_ENDED", answer: None }
        }

        fn store(_: &Db<'_>, (): &()) -> DbResult<()> {
            Ok(())
        }
    }

    fn run(batch: &[Delivery], state: &str) -> (Vec<Outcome>, Recorded) {
        let define = Definition::new("trip", "1")
            .saga::<Booking>()
            .replies::<Booking>("replies", Correlation::Json("/trip"));
        let host = TestHost::default();
        let saga: sagas::Saga = live::<Booking>("k", state, &Trip::default());
        let outcomes = deliveries(&define, &host, batch, vec![saga]).unwrap();
        (outcomes, host.recorded())
    }

    fn reply(step: &str, done: bool) -> Delivery {
        let value = format!(r#"{{"step":"{step}","done":{done}}}"#);
        Delivery { saga: Some(0), ..record("replies", &value) }
    }

    fn told(recorded: &Recorded) -> Vec<(&str, &str)> {
        recorded.transitions.iter().map(|step| (step.event.as_str(), step.state.as_str())).collect()
    }

    #[test]
    fn a_step_that_timed_out_is_undone_and_then_those_before_it() {
        let batch = [deadline::<Booking>("k", 1), reply("CANCEL_FLIGHT", true), reply("CANCEL_HOTEL", true)];
        let (outcomes, recorded) = run(&batch, "FLIGHT");
        assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Done, Outcome::Done]));
        assert_eq!(recorded.messages.len(), 2, "one undo of each step");
        assert_eq!(
            told(&recorded),
            [
                ("FLIGHT_TIMED_OUT", "CANCEL_FLIGHT"),
                ("CANCEL_FLIGHT_COMPLETED", "CANCEL_HOTEL"),
                ("TRIP_ENDED", "SAGA_COMPLETE")
            ]
        );
        let Status::Finished(finish) = &recorded.transitions[2].status else { unreachable!("it has ended") };
        assert_eq!(finish.ending, Ending::Compensated);
    }

    #[test]
    fn a_late_reply_is_recorded_and_changes_nothing() {
        for done in [true, false] {
            let (outcomes, recorded) = run(&[reply("HOTEL", done)], "CANCEL_HOTEL");
            assert!(matches!(outcomes[..], [Outcome::Done]));
            let event = if done { "HOTEL_COMPLETED_LATE" } else { "HOTEL_FAILED_LATE" };
            assert_eq!(told(&recorded), [(event, "CANCEL_HOTEL")]);
            let [late] = &recorded.transitions[..] else { unreachable!("one transition") };
            assert_eq!((&late.data, late.expected_revision), (&None, 1));
            assert!(matches!(late.status, Status::Until(NOW_US)), "the deadline stays");
            assert!(recorded.messages.is_empty());
        }
    }

    #[test]
    fn a_deadline_of_an_undo_changes_nothing() {
        let (outcomes, recorded) = run(&[deadline::<Booking>("k", 1)], "CANCEL_HOTEL");
        assert!(matches!(outcomes[..], [Outcome::Done]));
        assert!(recorded.transitions.is_empty() && recorded.messages.is_empty());
    }
}
