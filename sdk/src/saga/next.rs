//! What comes next in a saga: a pure function that holds every rule.

use std::time::Duration;

use super::{Ending, Step, step::Send};

/// What a reply says about the step, or undo, that waits in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Completed(&'static str),
    /// It was not done and never will be.
    Failed(&'static str),
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
    /// The verdict is about a state that the saga is not in: late, repeated or contradicting.
    Stale,
    /// These steps have no such state: another version of the plugin started the saga.
    Unknown,
}

impl Verdict {
    /// The state that it is about.
    #[must_use]
    pub fn state(self) -> &'static str {
        match self {
            Self::Completed(state) | Self::Failed(state) => state,
        }
    }
}

/// What a saga in `state` does next.
///
/// A completed step leads to the next one. A failed step, and every completed undo, leads to the nearest undo
/// before it; steps without an undo are passed over. An undo that fails ends the saga: a person must look.
#[must_use]
pub fn next<D>(steps: &[Step<D>], state: &str, verdict: Verdict) -> Next {
    let Some(waiting) = action_of(steps, state) else { return Next::Unknown };
    if verdict.state() != state {
        return Next::Stale;
    }
    match (waiting, verdict) {
        (Action::Do(step), Verdict::Completed(_)) if step + 1 < steps.len() => {
            Next::Run(Action::Do(step + 1))
        }
        (Action::Do(_), Verdict::Completed(_)) => Next::End(Ending::Completed),
        (Action::Do(step), Verdict::Failed(_)) | (Action::Undo(step), Verdict::Completed(_)) => {
            undo_before(steps, step)
        }
        (Action::Undo(_), Verdict::Failed(_)) => Next::End(Ending::Failed),
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
        Verdict::{self, Completed, Failed},
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
        for (state, completed, failed) in [
            ("A", Next::Run(Do(1)), Next::End(Ending::Compensated)),
            ("B", Next::Run(Do(2)), Next::Run(Undo(0))),
            ("C", Next::Run(Do(3)), Next::Run(Undo(0))),
            ("D", Next::End(Ending::Completed), Next::Run(Undo(2))),
            ("UNDO_C", Next::Run(Undo(0)), Next::End(Ending::Failed)),
            ("UNDO_A", Next::End(Ending::Compensated), Next::End(Ending::Failed)),
        ] {
            assert_eq!(next(&steps, state, Completed(state)), completed, "{state} completed");
            assert_eq!(next(&steps, state, Failed(state)), failed, "{state} failed");
            for other in
                ["A", "B", "C", "D", "UNDO_A", "UNDO_C", "X"].into_iter().filter(|other| *other != state)
            {
                assert_eq!(
                    next(&steps, state, Completed(other)),
                    Next::Stale,
                    "{state}, but {other} completed"
                );
                assert_eq!(next(&steps, state, Failed(other)), Next::Stale, "{state}, but {other} failed");
            }
        }
        assert_eq!(next(&steps, "UNDO_B", Completed("UNDO_B")), Next::Unknown);
    }

    #[test]
    fn a_saga_of_one_step_is_completed_or_compensated() {
        let steps = steps(&[false]);
        assert_eq!(next(&steps, "A", Completed("A")), Next::End(Ending::Completed));
        assert_eq!(next(&steps, "A", Failed("A")), Next::End(Ending::Compensated));
    }

    /// Runs a saga to its end. Every verdict comes twice, and all earlier ones come again, contradicted too.
    fn walk(
        steps: &[Step<()>],
        fails_at: Option<usize>,
        undo_fails_at: Option<usize>,
    ) -> (Vec<String>, Ending) {
        let (mut state, mut ran, mut past) = ("A", vec!["A".to_owned()], Vec::<Verdict>::new());
        loop {
            for stale in &past {
                assert_eq!(next(steps, state, *stale), Next::Stale);
            }
            let fails = match action_of(steps, state) {
                Some(Do(step)) => fails_at == Some(step),
                Some(Undo(step)) => undo_fails_at == Some(step),
                None => unreachable!("a state of the steps"),
            };
            let verdict = if fails { Failed(state) } else { Completed(state) };
            past.extend([Completed(state), Failed(state)]);
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
        #[test]
        fn any_failure_and_any_duplicate_ends_in_one_of_the_ends(
            undoable in proptest::collection::vec(any::<bool>(), 1..=5),
            fails_at in proptest::option::of(0_usize..5),
            undo_fails_at in proptest::option::of(0_usize..5),
        ) {
            let steps = steps(&undoable);
            let (ran, ending) = walk(&steps, fails_at, undo_fails_at);
            let failed = fails_at.filter(|step| *step < steps.len());
            let reached = failed.map_or(steps.len(), |step| step + 1);
            let mut expected: Vec<String> = STATES.iter().take(reached).map(ToString::to_string).collect();
            let mut undone = true;
            for step in (0..failed.unwrap_or(0)).rev().filter(|step| undoable[*step]) {
                expected.push(UNDOS[step].to_owned());
                if undo_fails_at == Some(step) {
                    undone = false;
                    break;
                }
            }
            prop_assert_eq!(ran, expected);
            prop_assert_eq!(ending, match (failed, undone) {
                (None, _) => Ending::Completed,
                (Some(_), true) => Ending::Compensated,
                (Some(_), false) => Ending::Failed,
            });
        }
    }
}
