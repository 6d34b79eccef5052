//! The part of WASI 0.2 that standard libraries import, with nothing granted: no files, network, environment
//! or arguments. Clocks stand at the unit's time and randomness is derived from the unit, so a batch that is
//! handled again decides the same.

use std::time::Duration;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{
    HostWallClock, WasiCtx,
    p2::{DynPollable, bindings::clocks::monotonic_clock},
};

use super::{
    guest::{Guest, OverLimit},
    output::Output,
    random::Randomness,
};

const RANDOM_BYTES_MAX: u64 = 1 << 20;
const RESOLUTION: Duration = Duration::from_micros(1);

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    // Only this one is replaced: its pollables would wait.
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What a call gets of WASI.
pub(super) fn context(output: &Output, now_us: i64, random: &Randomness) -> WasiCtx {
    WasiCtx::builder()
        .stdout(output.clone())
        .stderr(output.clone())
        .wall_clock(UnitClock(since_epoch(now_us)))
        .secure_random(random.generator(b"secure"))
        .insecure_random(random.generator(b"insecure"))
        .insecure_random_seed(random.hash_seed())
        .max_random_size(RANDOM_BYTES_MAX)
        .build()
}

fn since_epoch(now_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(now_us).unwrap_or(0))
}

/// Stands at the time of the unit, counted from 1970.
struct UnitClock(Duration);

impl HostWallClock for UnitClock {
    fn resolution(&self) -> Duration {
        RESOLUTION
    }

    fn now(&self) -> Duration {
        self.0
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(nanoseconds(since_epoch(self.now_us)))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(nanoseconds(RESOLUTION))
    }

    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(sleeping())
    }

    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(sleeping())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn sleeping() -> wasmtime::Error {
    OverLimit("a plugin cannot sleep: its clock does not move during a unit; schedule a timer".to_owned())
        .into()
}
