//! The part of WASI 0.2 that standard libraries import, with nothing granted: no files, network,
//! environment or arguments. Clocks stand still at the unit's time and randomness comes from the
//! unit: a batch that is handled again decides the same.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::{
    DynPollable,
    bindings::{
        clocks::{
            monotonic_clock,
            wall_clock::{self, Datetime},
        },
        random::{insecure, insecure_seed, random},
    },
};

use super::guest::{Guest, OverLimit};

const RANDOM_BYTES_MAX: u64 = 1 << 20;
const US_PER_S: i64 = 1_000_000;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    wall_clock::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    monotonic_clock::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    random::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    insecure::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    insecure_seed::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let seconds = u64::try_from(self.now_us.div_euclid(US_PER_S)).unwrap_or(0);
        let nanoseconds = u32::try_from(self.now_us.rem_euclid(US_PER_S) * 1_000).unwrap_or(0);
        Ok(Datetime { seconds, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: 1_000 })
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(self.now_us).unwrap_or(0).saturating_mul(1_000))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000)
    }

    fn subscribe_instant(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(sleeping())
    }

    fn subscribe_duration(&mut self, _: u64) -> wasmtime::Result<Resource<DynPollable>> {
        Err(sleeping())
    }
}

fn sleeping() -> wasmtime::Error {
    OverLimit("a plugin cannot sleep: time stands still during a unit; schedule a timer".to_owned()).into()
}

impl Guest {
    fn random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        if count > RANDOM_BYTES_MAX {
            return Err(
                OverLimit(format!("asks for {count} random bytes, more than {RANDOM_BYTES_MAX}")).into()
            );
        }
        let mut bytes = vec![0; usize::try_from(count)?];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }

    fn random_number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

impl random::Host for Guest {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_number())
    }
}

impl insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random_number())
    }
}

impl insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.random.hash_seed())
    }
}
