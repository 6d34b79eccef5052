//! The clock of guest time: raises the engine's epoch every [`TICK_MS`] while a guest runs, and
//! sleeps otherwise.
//!
//! A guest is charged a tick each time it notices that the epoch has moved on. Time in which it
//! did not run (a statement in Postgres, another task on its thread) passes as one tick at most.

use std::{
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
/// Ticks without a guest before the clock stops: calls follow each other closely under load, and
/// waking a thread for each would cost more than it saves.
const IDLE_TICKS: u32 = 20;

#[derive(Debug)]
struct State {
    running: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

/// The clock.
#[derive(Debug)]
pub(super) struct Ticker {
    state: Arc<State>,
    thread: Thread,
}

/// Keeps the clock going.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a State);

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        let state = Arc::new(State {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let (engine, shared) = (engine.clone(), Arc::clone(&state));
        let handle = thread::Builder::new()
            .name("guest-clock".to_owned())
            .stack_size(128 << 10)
            .spawn(move || tick(&engine, &shared))
            .context("cannot start the thread that measures guest time")?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    /// The clock goes while the answer lives.
    pub(super) fn run(&self) -> Running<'_> {
        self.state.running.fetch_add(1, Ordering::SeqCst);
        if self.state.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.state)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &wasmtime::Engine, state: &State) {
    let mut idle = 0;
    while !state.ended.load(Ordering::SeqCst) {
        if idle < IDLE_TICKS {
            thread::sleep(Duration::from_millis(u64::from(TICK_MS)));
            engine.increment_epoch();
            idle = if state.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            continue;
        }
        // Said before looking once more: a guest that starts in between sees it and wakes us.
        state.asleep.store(true, Ordering::SeqCst);
        if state.running.load(Ordering::SeqCst) == 0 {
            thread::park();
        }
        idle = 0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{sync::atomic::Ordering, thread, time::Duration};

    use super::Ticker;

    #[test]
    fn the_clock_stops_without_guests_and_goes_again() {
        let ticker = Ticker::start(&wasmtime::Engine::default()).unwrap();
        let asleep = |wanted: bool| {
            (0..2_000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                ticker.state.asleep.load(Ordering::SeqCst) == wanted
            })
        };
        assert!(asleep(true));
        let running = ticker.run();
        assert!(asleep(false));
        drop(running);
        assert!(asleep(true));
    }
}
