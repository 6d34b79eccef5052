//! Replies and deadlines of a batch, each applied to its saga in order; the rows of those that ended are
//! stored together.

use super::{
    Action, COMPLETE, Ending, FAILED, Next, OnDeadline, Saga, Step, Verdict,
    live::{Live, place_of},
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

/// What happened to a saga.
enum News<R> {
    Reply(R),
    Deadline { revision: u64 },
}

pub(crate) fn run<S: Saga>(unit: &mut Unit<'_, Delivery, Outcome>, places: &[u32]) -> Result<(), Failure> {
    let steps = S::steps(unit.effects.context());
    let mut rows = S::Rows::default();
    for &place in places {
        unit.at(place);
        let Some(delivery) = unit.item(place) else { continue };
        let news = match &delivery.source {
            Source::Deadline(of) => News::Deadline { revision: of.revision },
            _ => match unit.decode::<S::Reply>(place) {
                Some(reply) => News::Reply(reply),
                None => continue,
            },
        };
        let mark = unit.effects.mark();
        let live = place_of(&unit.sagas, delivery).and_then(|place| unit.sagas.get_mut(place));
        let outcome = match live.filter(|live| !live.ended && live.saga_type == S::TYPE) {
            Some(live) => take::<S>(&steps, live, &news, &mut rows, &mut unit.effects),
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

fn take<S: Saga>(
    steps: &[Step<S::Data>],
    live: &mut Live,
    news: &News<S::Reply>,
    rows: &mut S::Rows,
    effects: &mut Effects<'_>,
) -> Outcome {
    let mut data: S::Data = match serde_json::from_str(&live.data) {
        Ok(data) => data,
        Err(error) => {
            return Outcome::reject(format!("the data of {} {}: {error}", live.saga_type, live.key));
        }
    };
    let verdict = match news {
        News::Reply(reply) => S::judge(&mut data, reply),
        News::Deadline { revision } if *revision != live.revision => {
            return Outcome::ignored("the saga has moved on since this deadline was set");
        }
        News::Deadline { .. } => match action_of(steps, &live.state) {
            None => return unknown(live),
            Some(Action::Do(step)) if steps[step].on_deadline == OnDeadline::Fail => {
                Verdict::Failed(steps[step].state)
            }
            // No transition: the host marks the saga overdue and sets its next deadline.
            Some(Action::Do(_) | Action::Undo(_)) => return Outcome::Done,
        },
    };
    let event = |how: &str| format!("{}_{how}", verdict.state());
    match next(steps, &live.state, verdict) {
        Next::Unknown => return unknown(live),
        Next::Stale => {
            return Outcome::ignored(format!(
                "late: it answers {}, and the saga is in {}",
                verdict.state(),
                live.state
            ));
        }
        Next::Run(action) => {
            let (state, send, deadline) = match action {
                Action::Do(step) => (steps[step].state, steps[step].action, steps[step].deadline),
                Action::Undo(step) => match steps[step].undo {
                    Some((state, send)) => (state, send, steps[step].deadline),
                    None => return unknown(live),
                },
            };
            send(&data, effects);
            let event = event(if matches!(verdict, Verdict::Completed(_)) { "COMPLETED" } else { "FAILED" });
            advance(live, effects, event, state, &data, Status::Until(effects.now().plus(deadline).0));
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

fn unknown(live: &Live) -> Outcome {
    Outcome::reject(format!(
        "{} {} is in {}, which this version does not know",
        live.saga_type, live.key, live.state
    ))
}

fn advance(
    live: &mut Live,
    effects: &mut Effects<'_>,
    event: String,
    state: &str,
    data: &impl serde::Serialize,
    status: Status,
) {
    let Some(json) = effects.json(data) else { return };
    let changed = (json != live.data).then_some(json);
    push(live, effects, event, state.to_owned(), changed, status);
}

fn push(
    live: &mut Live,
    effects: &mut Effects<'_>,
    event: String,
    state: String,
    data: Option<String>,
    status: Status,
) {
    effects.transitions.push(Transition {
        cause: effects.context().place(),
        saga_type: live.saga_type.clone(),
        key: live.key.clone(),
        expected_revision: live.revision,
        event,
        state: state.clone(),
        data: data.clone(),
        status,
    });
    live.revision += 1;
    live.state = state;
    if let Some(data) = data {
        live.data = data;
    }
}
