//! Fault points: named places at which a test can kill the host, as `kill -9` would, or make a task panic. A
//! test can also make a host play the next build, which has a newer format of bodies and another `saga.flush`.
//!
//! `SAGA_HOST_FAULT=NAME` or `NAME:COUNT` chooses one to kill at, `panic:NAME` or `panic:NAME:COUNT` one to
//! panic at. COUNT is the Nth hit, counting from 1. Without the variable a fault point costs one atomic load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

struct ChosenFaultPoint {
    name: String,
    hits_left: AtomicU64,
    panics: bool,
}

static CHOSEN: OnceLock<Option<ChosenFaultPoint>> = OnceLock::new();

fn read_choice() -> Option<ChosenFaultPoint> {
    let text = std::env::var("SAGA_HOST_FAULT").ok()?;
    let (panics, point) = text.strip_prefix("panic:").map_or((false, &*text), |point| (true, point));
    let (name, count) = point.split_once(':').unwrap_or((point, "1"));
    let hits_left = AtomicU64::new(count.parse().unwrap_or(1));
    Some(ChosenFaultPoint { name: name.to_owned(), hits_left, panics })
}

static NEXT_BUILD: OnceLock<bool> = OnceLock::new();

/// Whether this process plays the next build: `SAGA_HOST_PLAYS_NEXT_BUILD=1`.
#[must_use]
pub fn is_next_build() -> bool {
    *NEXT_BUILD.get_or_init(|| std::env::var("SAGA_HOST_PLAYS_NEXT_BUILD").is_ok_and(|value| value == "1"))
}

/// Kills the process, or panics, when `name` is the chosen fault point and this is the chosen hit.
#[allow(clippy::panic, reason = "it is what a test asks for")]
pub fn reach(name: &str) {
    let Some(chosen) = CHOSEN.get_or_init(read_choice) else { return };
    if chosen.name == name && chosen.hits_left.fetch_sub(1, Ordering::AcqRel) == 1 {
        assert!(!chosen.panics, "the fault point {name} was reached");
        let this = rustix::process::getpid();
        let _killed_before_it_returns = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}
