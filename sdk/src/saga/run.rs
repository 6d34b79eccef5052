//! Replies and deadlines of a batch, each applied to its saga in order; the rows of those that ended are
//! stored together.

use std::time::Duration;

use super::{
    Action, COMPLETE, Ending, FAILED, Next, OVERDUE, OnDeadline, Saga, Step, Verdict,
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
    timestamp::Timestamp,
    unit::Unit,
};

/// The longest pause between two looks at an overdue saga.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

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
            Some(Action::Do(step) | Action::Undo(step)) => {
                overdue(live, steps[step].deadline, effects);
                return Outcome::Done;
            }
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

/// Looked at again after its deadline, then after as long as it has waited.
fn overdue(live: &mut Live, deadline: Duration, effects: &mut Effects<'_>) {
    let now = effects.now();
    let status = Status::Until(now.plus(pause(deadline, live.began, now)).0);
    let state = live.state.clone();
    push(live, effects, OVERDUE.to_owned(), state, None, status);
}

fn pause(deadline: Duration, began: Timestamp, now: Timestamp) -> Duration {
    now.since(began).max(deadline).min(PAUSE_MAX)
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

#[cfg(test)]
mod tests {
    use super::{Duration, Timestamp, pause};

    #[test]
    fn pauses_grow_up_to_an_hour() {
        for (waited_s, expected_s) in [(1, 30), (30, 30), (61, 61), (3_599, 3_599), (90_000, 3_600)] {
            let paused = pause(Duration::from_secs(30), Timestamp(0), Timestamp(waited_s * 1_000_000));
            assert_eq!(paused, Duration::from_secs(expected_s), "after {waited_s} s");
        }
    }
}
