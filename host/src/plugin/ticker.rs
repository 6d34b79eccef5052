//! The clock of guest time: increments the engine's epoch every [`TICK_MS`] while a guest runs, and sleeps
//! otherwise.
//!
//! A guest is charged one tick whenever it notices that the epoch has changed. Time in which it does not run
//! (a statement in Postgres, another task on its thread) counts as one tick at most.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use anyhow::Context;

/// Milliseconds between two ticks.
pub(super) const TICK_MS: u32 = 5;
/// Ticks without a guest before the clock sleeps. Under load calls follow each other closely, and waking the
/// thread for each would cost more than it saves.
const IDLE_TICKS_MAX: u32 = 20;

#[derive(Debug)]
struct TickerState {
    /// Guests that run.
    guests: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// The thread that increments the epoch. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Ticker {
    state: Arc<TickerState>,
    thread: Thread,
}

/// Keeps the clock awake until it is dropped.
#[derive(Debug)]
pub(super) struct TickGuard<'a>(&'a TickerState);

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        let state = Arc::new(TickerState {
            guests: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let (engine, shared) = (engine.clone(), Arc::clone(&state));
        let handle = thread::Builder::new()
            .name("guest-clock".to_owned())
            .stack_size(128 << 10)
            .spawn(move || {
                // Without the clock no guest would be stopped at its time limit.
                while catch_unwind(AssertUnwindSafe(|| tick(&engine, &shared))).is_err() {
                    tracing::error!("the clock of guest time has panicked; it is started again");
                }
            })
            .context("starting the thread that measures guest time")?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    /// Wakes the clock for one guest, until the guard is dropped.
    pub(super) fn keep_awake(&self) -> TickGuard<'_> {
        self.state.guests.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        TickGuard(&self.state)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &wasmtime::Engine, state: &TickerState) {
    let mut idle_ticks = 0;
    while !state.stopped.load(Ordering::SeqCst) {
        if idle_ticks < IDLE_TICKS_MAX {
            thread::sleep(Duration::from_millis(u64::from(TICK_MS)));
            engine.increment_epoch();
            idle_ticks = if state.guests.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
            continue;
        }
        // Set before `guests` is read again: a guest that starts in between sees it and wakes this thread.
        state.asleep.store(true, Ordering::SeqCst);
        if state.guests.load(Ordering::SeqCst) == 0 {
            thread::park();
        }
        idle_ticks = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{sync::atomic::Ordering, thread, time::Duration};

    use super::Ticker;

    #[test]
    fn the_clock_sleeps_without_guests_and_wakes_for_one() {
        let ticker = Ticker::start(&wasmtime::Engine::default()).unwrap();
        let asleep = |wanted: bool| {
            (0..2_000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                ticker.state.asleep.load(Ordering::SeqCst) == wanted
            })
        };
        assert!(asleep(true));
        let guard = ticker.keep_awake();
        assert!(asleep(false));
        drop(guard);
        assert!(asleep(true));
    }
}
