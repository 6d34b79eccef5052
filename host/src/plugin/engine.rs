//! The wasmtime engine that all plugins share: one pool of instances, one linker, one clock.

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::Context;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker,
};

use super::{component_cache::ComponentCache, ticker::Ticker};
use crate::capability::{self, guest::Guest};

/// The largest `memory_mib_max` of a policy.
pub const MEMORY_MIB_MAX: u32 = 1_024;

/// Instances at one time; a call beyond them waits for its turn.
const INSTANCES_MAX: u32 = 64;
/// A component is a handful of core modules: its own, and those that its tools put around it.
const CORE_INSTANCES_MAX: u32 = 16 * INSTANCES_MAX;
/// Memory and table pages that a slot keeps, so that the next instance finds them mapped.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// The engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    cache: ComponentCache,
    ticker: Ticker,
    slots: Semaphore,
}

impl Engine {
    /// `cache_dir` keeps compiled components; it is made with mode 0700.
    ///
    /// # Errors
    /// When the machine cannot reserve the address space of the pool, or the folder cannot be
    /// made or belongs to somebody else.
    pub fn new(cache_dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&config()).map_err(anyhow::Error::from).with_context(|| {
            format!("cannot reserve the address space of {INSTANCES_MAX} plugin instances")
        })?;
        let linker = capability::linker(&wasmtime)
            .map_err(anyhow::Error::from)
            .context("cannot link what plugins import")?;
        let cache = ComponentCache::open(cache_dir.into(), &wasmtime)?;
        let ticker = Ticker::start(&wasmtime)?;
        let slots = Semaphore::new(INSTANCES_MAX as usize);
        Ok(Self { inner: Arc::new(Inner { wasmtime, linker, cache, ticker, slots }) })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.inner.linker
    }

    pub(super) fn cache(&self) -> &ComponentCache {
        &self.inner.cache
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }

    /// A place for one instance. Waits while all are taken.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.slots.acquire().await.ok()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("free_slots", &self.inner.slots.available_permits()).finish()
    }
}

fn config() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(CORE_INSTANCES_MAX)
        .total_memories(2 * INSTANCES_MAX)
        .total_tables(4 * INSTANCES_MAX)
        .total_stacks(INSTANCES_MAX)
        .max_memories_per_component(2)
        .max_tables_per_component(4)
        .table_elements(65_536)
        .max_memory_size((MEMORY_MIB_MAX as usize) << 20)
        .max_unused_warm_slots(INSTANCES_MAX / 4)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        // Kernels since 6.7 tell which pages an instance wrote: only those are put back, and few are given up
        // to be mapped anew.
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .concurrency_support(false);
    config
}
