//! Weighs a failure of which it is unclear whether the environment or the guest has caused it.
//!
//! The environment fails everything, a guest fails at one delivery or request. So the batch runs again, then
//! Postgres is asked for something trivial, then the batch is halved. What fails alone, while the rest goes
//! on, never stops its plugin. A statement that takes too long, while Postgres and the other plugins are in
//! time, is the guest's fault. Anything else is blamed on nobody: a delivery is parked and retried without a
//! limit, so that nothing is lost where the environment was to blame after all; a request is answered 503.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::sqlstate::Unclear;

/// How many suspects are parked in a row before the lane pauses at each: while nothing succeeds, the
/// environment is the likely cause, and parking everything would only move the backlog.
const IN_A_ROW_MAX: u32 = 8;
/// How long statements of several plugins that take too long count as a slow server.
const OTHERS_COUNT_FOR: Duration = Duration::from_secs(60);
/// How long a time-out of a plugin is remembered, unless one of its units commits first.
const TIMED_OUT_FOR: Duration = Duration::from_secs(10);

/// The plugins of this process whose last unit took too long.
static TIMED_OUT: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// How often a batch, or the one that it is a part of, has failed for an unclear cause, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub(super) runs: u32,
    pub(super) since: Instant,
    /// Whether it has met a row that somebody has locked.
    pub(super) met_lock: bool,
}

impl Tried {
    /// For a batch that has not failed yet.
    pub(super) fn not_yet() -> Self {
        Self { runs: 0, since: Instant::now(), met_lock: false }
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, kind: Unclear) {
        if self.runs == 0 {
            self.since = Instant::now();
        }
        self.runs += 1;
        self.met_lock |= kind == Unclear::Lock;
    }
}

/// What a lane sees when a unit fails for an unclear cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    /// How often the batch, or the one that it is a part of, has failed for an unclear cause.
    pub(super) runs: u32,
    /// Deliveries or requests that may be to blame.
    pub(super) suspects: usize,
    /// Whether Postgres answers a trivial statement as fast as it should.
    pub(super) postgres_answers: bool,
    /// Whether units of other plugins take too long, too.
    pub(super) others_time_out: bool,
    /// How many suspects were parked since the last unit in which the plugin succeeded.
    pub(super) in_a_row: u32,
}

/// What the lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Runs the batch again.
    Again,
    /// The environment is at fault: pauses, then runs the batch again.
    Pause,
    /// Halves the batch.
    Halve,
    /// The one suspect is at fault.
    Blame,
    /// Parks the one suspect without blame, or answers that it cannot be handled now.
    Park,
    /// Pauses, then parks the one suspect.
    PauseAndPark,
}

/// What a lane does after a failure of this kind.
pub(super) fn next(kind: Unclear, evidence: &Evidence) -> Step {
    let Evidence { runs, suspects, postgres_answers, others_time_out, in_a_row } = *evidence;
    match suspects {
        // What is left only parks and queues: the guest did not run.
        0 => Step::Pause,
        _ if runs < runs_max(kind) => Step::Again,
        _ if !postgres_answers => Step::Pause,
        _ if kind == Unclear::Timeout && others_time_out => Step::Pause,
        2.. => Step::Halve,
        1 if in_a_row >= IN_A_ROW_MAX => Step::PauseAndPark,
        1 if kind == Unclear::Timeout => Step::Blame,
        1 => Step::Park,
    }
}

/// Whether [`next`] asks if Postgres answers.
pub(super) fn depends_on_postgres(kind: Unclear, tried: Tried, suspects: usize) -> bool {
    suspects > 0 && tried.runs >= runs_max(kind)
}

/// How often a batch runs before it is suspected. A statement that waited for a lock has waited long enough.
fn runs_max(kind: Unclear) -> u32 {
    match kind {
        Unclear::Lock => 1,
        Unclear::Timeout | Unclear::Server => 2,
        Unclear::Conflict => 3,
        // An outage does the same. It shows in the attempts to connect again, before the batch runs again.
        Unclear::SessionEnded => 4,
    }
}

/// Records that a unit of a plugin took too long. Returns whether those of others did, too, and this batch
/// has not waited for it to end for longer than that counts.
pub(super) fn timed_out(plugin: &str, failing_since: Instant) -> bool {
    let now = Instant::now();
    let mut timed_out = TIMED_OUT.lock();
    timed_out.insert(plugin.to_owned(), now);
    timed_out.retain(|_, at| now - *at < TIMED_OUT_FOR);
    timed_out.len() > 1 && now - failing_since < OTHERS_COUNT_FOR
}

/// Records that a unit of a plugin was in time.
pub(super) fn in_time(plugin: &str) {
    TIMED_OUT.lock().remove(plugin);
}

#[cfg(test)]
mod tests {
    use super::{
        Evidence, IN_A_ROW_MAX,
        Step::{Again, Blame, Halve, Park, Pause, PauseAndPark},
        Unclear::{Conflict, Lock, Server, SessionEnded, Timeout},
        next,
    };

    const ALONE: Evidence =
        Evidence { runs: 9, suspects: 1, postgres_answers: true, others_time_out: false, in_a_row: 0 };

    #[test]
    fn a_statement_that_ends_its_session_each_time_is_found() {
        let again = |runs| Evidence { runs, suspects: 5, ..ALONE };
        let steps = [1, 3, 4].map(|runs| next(SessionEnded, &again(runs)));
        assert_eq!(steps, [Again, Again, Halve]);
        assert_eq!(next(SessionEnded, &ALONE), Park);
    }

    #[test]
    fn what_else_is_seen_decides() {
        let again = |runs| Evidence { runs, ..ALONE };
        let several = Evidence { suspects: 5, ..ALONE };
        let none = Evidence { suspects: 0, ..ALONE };
        let slow = Evidence { postgres_answers: false, ..ALONE };
        let all_slow = Evidence { others_time_out: true, ..ALONE };
        let many = Evidence { in_a_row: IN_A_ROW_MAX, ..ALONE };
        for (evidence, [conflict, lock, timeout, server]) in [
            (again(1), [Again, Park, Again, Again]),
            (again(2), [Again, Park, Blame, Park]),
            (again(3), [Park, Park, Blame, Park]),
            (none, [Pause, Pause, Pause, Pause]),
            (slow, [Pause, Pause, Pause, Pause]),
            (Evidence { suspects: 5, ..slow }, [Pause, Pause, Pause, Pause]),
            (several, [Halve, Halve, Halve, Halve]),
            (all_slow, [Park, Park, Pause, Park]),
            (Evidence { suspects: 5, ..all_slow }, [Halve, Halve, Pause, Halve]),
            (many, [PauseAndPark, PauseAndPark, PauseAndPark, PauseAndPark]),
        ] {
            for (kind, expected) in [(Conflict, conflict), (Lock, lock), (Timeout, timeout), (Server, server)]
            {
                assert_eq!(next(kind, &evidence), expected, "{kind:?} {evidence:?}");
            }
        }
    }
}
