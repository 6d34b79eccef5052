//! The wasmtime engine that all plugins share: one instance pool, one linker, one component cache, one clock.

use std::{fmt, path::PathBuf, sync::Arc};

use anyhow::Context;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker,
};

use super::{component_cache::ComponentCache, ticker::Ticker};
use crate::{
    capability::{self, guest::Guest},
    model::policy::MEMORY_MIB_MAX,
};

/// Instances at one time, at most. A call beyond them waits for a free slot.
const INSTANCES_MAX: u32 = 64;
/// A component consists of several core modules: the plugin's own and those that build tools add.
const CORE_INSTANCES_MAX: u32 = 16 * INSTANCES_MAX;
/// Memory and table bytes that a free slot keeps mapped for its next instance.
const RESIDENT_BYTES_MAX: usize = 256 << 10;

/// A handle of the engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<EngineParts>,
}

struct EngineParts {
    wasmtime: wasmtime::Engine,
    linker: Linker<Guest>,
    cache: ComponentCache,
    ticker: Ticker,
    slots: Semaphore,
}

impl Engine {
    /// Stores compiled components in the folder `cache_dir`, which it creates with mode 0700.
    ///
    /// # Errors
    /// The machine cannot reserve the pool's address space, or the folder cannot be created or belongs to
    /// another account.
    pub fn new(cache_dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let wasmtime = wasmtime::Engine::new(&config()).map_err(anyhow::Error::from).with_context(|| {
            format!("reserving the address space of {INSTANCES_MAX} plugin instances, check ulimit -v")
        })?;
        let linker = capability::linker(&wasmtime)
            .map_err(anyhow::Error::from)
            .context("linking the interfaces that plugins import")?;
        let cache = ComponentCache::open(cache_dir.into(), &wasmtime)?;
        let ticker = Ticker::start(&wasmtime)?;
        let slots = Semaphore::new(INSTANCES_MAX as usize);
        Ok(Self { parts: Arc::new(EngineParts { wasmtime, linker, cache, ticker, slots }) })
    }

    pub(super) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.parts.wasmtime
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.parts.linker
    }

    pub(super) fn cache(&self) -> &ComponentCache {
        &self.parts.cache
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.parts.ticker
    }

    /// A slot of the pool for one instance. Waits while all are in use.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.parts.slots.acquire().await.ok()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("free_slots", &self.parts.slots.available_permits()).finish()
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
        .linear_memory_keep_resident(RESIDENT_BYTES_MAX)
        .table_keep_resident(RESIDENT_BYTES_MAX)
        // Linux since 6.7 reports which pages an instance has written: only those are reset, and few are
        // unmapped.
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
