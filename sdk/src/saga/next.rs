//! What comes next in a saga: a pure function that holds every rule.

use std::time::Duration;

use super::{Ending, Step, step::Send};

/// What is known about the step, or undo, that waits in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Completed(&'static str),
    /// It was not done and never will be.
    Failed(&'static str),
    /// It may have been done: no reply came in time ([`super::OnDeadline::Undo`]), or the reply says so.
    Unknown(&'static str),
}

/// Something to send, by the place of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The step's action.
    Do(usize),
    /// The step's undo.
    Undo(usize),
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this, then wait in its state.
    Run(Action),
    /// The saga ends.
    End(Ending),
    /// The verdict is about a step that is being undone, or was: the saga records it and stays as it is.
    Late,
    /// The verdict is about another state that the saga is not in: repeated or contradicting.
    Stale,
    /// These steps have no such state: another version of the plugin started the saga.
    Unknown,
}

impl Verdict {
    /// The state that it is about.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Completed(state) | Self::Failed(state) | Self::Unknown(state) => state,
        }
    }
}

/// What a saga in `state` does next.
///
/// A completed step leads to the next one. A failed step, and every completed undo, leads to the nearest undo
/// before it; a step whose outcome is unknown leads to its own undo first. Steps without an undo are passed
/// over. An undo that fails ends the saga: a person must look. An undo waits for its reply without a limit, so
/// its outcome is never unknown.
#[must_use]
pub fn next<D>(steps: &[Step<D>], state: &str, verdict: Verdict) -> Next {
    let Some(waiting) = action_of(steps, state) else { return Next::Unknown };
    if verdict.state() != state {
        return stale_or_late(steps, waiting, verdict);
    }
    match (waiting, verdict) {
        (Action::Do(step), Verdict::Completed(_)) if step + 1 < steps.len() => {
            Next::Run(Action::Do(step + 1))
        }
        (Action::Do(_), Verdict::Completed(_)) => Next::End(Ending::Completed),
        (Action::Do(step), Verdict::Unknown(_)) => undo_before(steps, step + 1),
        (Action::Do(step), Verdict::Failed(_)) | (Action::Undo(step), Verdict::Completed(_)) => {
            undo_before(steps, step)
        }
        (Action::Undo(_), Verdict::Failed(_)) => Next::End(Ending::Failed),
        (Action::Undo(_), Verdict::Unknown(_)) => Next::Stale,
    }
}

/// A reply to the step that is being undone, or to one that was undone before it, is late.
fn stale_or_late<D>(steps: &[Step<D>], waiting: Action, verdict: Verdict) -> Next {
    match (waiting, action_of(steps, verdict.state()), verdict) {
        (_, _, Verdict::Unknown(_)) => Next::Stale,
        (Action::Undo(undone), Some(Action::Do(step)), _) if step >= undone => Next::Late,
        _ => Next::Stale,
    }
}

impl Action {
    /// The state to wait in, what to send, and how long to wait; none for the undo of a step without one.
    pub(super) fn of<D>(self, steps: &[Step<D>]) -> Option<(&'static str, Send<D>, Duration)> {
        match self {
            Self::Do(step) => steps.get(step).map(|step| (step.state, step.action, step.deadline)),
            Self::Undo(step) => {
                let step = steps.get(step)?;
                step.undo.map(|(state, send)| (state, send, step.deadline))
            }
        }
    }
}

/// The action whose reply a saga in `state` waits for.
pub(super) fn action_of<D>(steps: &[Step<D>], state: &str) -> Option<Action> {
    let done = steps.iter().position(|step| step.state == state).map(Action::Do);
    let undone =
        || steps.iter().position(|step| step.undo.is_some_and(|(undo, _)| undo == state)).map(Action::Undo);
    done.or_else(undone)
}

fn undo_before<D>(steps: &[Step<D>], step: usize) -> Next {
    match steps.iter().take(step).rposition(|step| step.undo.is_some()) {
        Some(step) => Next::Run(Action::Undo(step)),
        None => Next::End(Ending::Compensated),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Action::{Do, Undo},
        Ending, Next, Step,
        Verdict::{self, Completed, Failed, Unknown},
        action_of, next,
    };

    const STATES: [&str; 5] = ["A", "B", "C", "D", "E"];
    const UNDOS: [&str; 5] = ["UNDO_A", "UNDO_B", "UNDO_C", "UNDO_D", "UNDO_E"];

    /// Steps A, B, …; `undoable` says which have an undo.
    fn steps(undoable: &[bool]) -> Vec<Step<()>> {
        let step = |place: usize| {
            let step = Step::new(STATES[place], |(), _| {});
            if undoable[place] { step.undo(UNDOS[place], |(), _| {}) } else { step }
        };
        (0..undoable.len()).map(step).collect()
    }

    #[test]
    fn every_state_and_verdict() {
        let steps = steps(&[true, false, true, false]);
        let compensated = Next::End(Ending::Compensated);
        for (state, completed, failed, unknown, late) in [
            ("A", Next::Run(Do(1)), compensated, Next::Run(Undo(0)), &[][..]),
            ("B", Next::Run(Do(2)), Next::Run(Undo(0)), Next::Run(Undo(0)), &[]),
            ("C", Next::Run(Do(3)), Next::Run(Undo(0)), Next::Run(Undo(2)), &[]),
            ("D", Next::End(Ending::Completed), Next::Run(Undo(2)), Next::Run(Undo(2)), &[]),
            ("UNDO_C", Next::Run(Undo(0)), Next::End(Ending::Failed), Next::Stale, &["C", "D"]),
            ("UNDO_A", compensated, Next::End(Ending::Failed), Next::Stale, &["A", "B", "C", "D"]),
        ] {
            assert_eq!(next(&steps, state, Completed(state)), completed, "{state} completed");
            assert_eq!(next(&steps, state, Failed(state)), failed, "{state} failed");
            assert_eq!(next(&steps, state, Unknown(state)), unknown, "{state} unknown");
            let all = ["A", "B", "C", "D", "UNDO_A", "UNDO_C", "X"];
            for other in all.into_iter().filter(|other| *other != state) {
                let expected = if late.contains(&other) { Next::Late } else { Next::Stale };
                assert_eq!(next(&steps, state, Completed(other)), expected, "{state}, {other} completed");
                assert_eq!(next(&steps, state, Failed(other)), expected, "{state}, {other} failed");
                assert_eq!(next(&steps, state, Unknown(other)), Next::Stale, "{state}, {other} unknown");
            }
        }
        assert_eq!(next(&steps, "UNDO_B", Completed("UNDO_B")), Next::Unknown);
    }

    #[test]
    fn a_saga_of_one_step_is_completed_or_compensated() {
        let without_undo = steps(&[false]);
        assert_eq!(next(&without_undo, "A", Completed("A")), Next::End(Ending::Completed));
        assert_eq!(next(&without_undo, "A", Failed("A")), Next::End(Ending::Compensated));
        assert_eq!(next(&without_undo, "A", Unknown("A")), Next::End(Ending::Compensated));
        let with_undo = steps(&[true]);
        assert_eq!(next(&with_undo, "A", Failed("A")), Next::End(Ending::Compensated));
        assert_eq!(next(&with_undo, "A", Unknown("A")), Next::Run(Undo(0)));
    }

    /// How the step of a walk that does not complete ends.
    #[derive(Clone, Copy, Debug)]
    struct Stop {
        at: usize,
        unknown: bool,
    }

    /// Runs a saga to its end. Every verdict comes twice, and all earlier ones come again, contradicted too:
    /// they never change anything.
    fn walk(steps: &[Step<()>], stop: Option<Stop>, undo_fails_at: Option<usize>) -> (Vec<String>, Ending) {
        let (mut state, mut ran, mut past) = ("A", vec!["A".to_owned()], Vec::<Verdict>::new());
        loop {
            for earlier in &past {
                let changes = next(steps, state, *earlier);
                assert!(matches!(changes, Next::Stale | Next::Late), "{state} {earlier:?}: {changes:?}");
            }
            let verdict = match action_of(steps, state) {
                Some(Do(step)) => match stop.filter(|stop| stop.at == step) {
                    Some(Stop { unknown: true, .. }) => Unknown(state),
                    Some(_) => Failed(state),
                    None => Completed(state),
                },
                Some(Undo(step)) if undo_fails_at == Some(step) => Failed(state),
                Some(Undo(_)) => Completed(state),
                None => unreachable!("a state of the steps"),
            };
            past.extend([Completed(state), Failed(state), Unknown(state)]);
            match next(steps, state, verdict) {
                Next::Run(Do(step)) => state = STATES[step],
                Next::Run(Undo(step)) => state = UNDOS[step],
                Next::End(ending) => return (ran, ending),
                stuck => unreachable!("{stuck:?}"),
            }
            ran.push(state.to_owned());
        }
    }

    proptest! {
        /// What may have been done is undone, each once and the latest first; nothing else is.
        #[test]
        fn any_failure_and_any_duplicate_ends_in_one_of_the_ends(
            undoable in proptest::collection::vec(any::<bool>(), 1..=5),
            stops_at in proptest::option::of((0_usize..5, any::<bool>())),
            undo_fails_at in proptest::option::of(0_usize..5),
        ) {
            let steps = steps(&undoable);
            let stop = stops_at.map(|(at, unknown)| Stop { at, unknown }).filter(|stop| stop.at < steps.len());
            let (ran, ending) = walk(&steps, stop, undo_fails_at);
            let reached = stop.map_or(steps.len(), |stop| stop.at + 1);
            let may_be_done = stop.map_or(0, |stop| stop.at + usize::from(stop.unknown));
            let mut expected: Vec<String> = STATES.iter().take(reached).map(ToString::to_string).collect();
            let mut undone = true;
            for step in (0..may_be_done).rev().filter(|step| undoable[*step]) {
                expected.push(UNDOS[step].to_owned());
                if undo_fails_at == Some(step) {
                    undone = false;
                    break;
                }
            }
            prop_assert_eq!(ran, expected);
            prop_assert_eq!(ending, match (stop, undone) {
                (None, _) => Ending::Completed,
                (Some(_), true) => Ending::Compensated,
                (Some(_), false) => Ending::Failed,
            });
        }
    }
}
