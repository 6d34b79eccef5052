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
            let how = if matches!(verdict, Verdict::Completed(_)) { "COMPLETED" } else { "FAILED" };
            let until = Status::Until(effects.now().plus(deadline).0);
            advance(live, effects, format!("{}_{how}", verdict.state()), state, &data, until);
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
        Some(Action::Do(step)) if steps[step].on_deadline == OnDeadline::Fail => {
            Ok(Verdict::Failed(steps[step].state))
        }
        Some(Action::Do(_) | Action::Undo(_)) => Err(Outcome::Done),
    }
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
