//! Places at which a test may kill the host: the process ends there as by `kill -9`.
//!
//! `SAGA_HOST_FAULT=NAME` or `NAME:COUNT` (the how-manieth time that it is reached, from 1)
//! chooses one. Without the variable a place costs one load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

struct Fault {
    name: String,
    left: AtomicU64,
}

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

fn chosen() -> Option<Fault> {
    let text = std::env::var("SAGA_HOST_FAULT").ok()?;
    let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Fault { name: name.to_owned(), left: AtomicU64::new(count.parse().unwrap_or(1)) })
}

/// Ends the process when this is the place chosen.
pub fn reach(name: &str) {
    let Some(fault) = FAULT.get_or_init(chosen) else { return };
    if fault.name == name && fault.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        let this = rustix::process::getpid();
        let _ended_before_it_returns = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}
