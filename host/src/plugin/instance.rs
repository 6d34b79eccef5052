//! One fresh instance for one call: guest time is measured, memory bounded, and what the guest was
//! given comes back when it is done.

use std::mem;

use tokio::sync::SemaphorePermit;
use wasmtime::{
    PoolConcurrencyLimitError, Store, UpdateDeadline,
    component::{Instance, InstancePre},
};

use super::{
    check::Exported,
    engine::Engine,
    ticker::{Running, TICK_MS},
};
use crate::{
    capability::guest::{Guest, OverLimit},
    model::bindings::exports::saga::plugin::{deliveries, manifest, requests},
};

/// Where the exports of a component are.
pub(super) struct Exports {
    pub(super) manifest: manifest::GuestIndices,
    pub(super) deliveries: Option<deliveries::GuestIndices>,
    pub(super) requests: Option<requests::GuestIndices>,
}

impl Exports {
    pub(super) fn find(pre: &InstancePre<Guest>, exported: Exported) -> wasmtime::Result<Self> {
        Ok(Self {
            manifest: manifest::GuestIndices::new(pre)?,
            deliveries: exported.deliveries.then(|| deliveries::GuestIndices::new(pre)).transpose()?,
            requests: exported.requests.then(|| requests::GuestIndices::new(pre)).transpose()?,
        })
    }
}

/// An instance in its store.
pub(super) struct Call<'engine> {
    pub(super) store: Store<Guest>,
    _slot: Option<SemaphorePermit<'engine>>,
    _clock: Running<'engine>,
}

impl<'engine> Call<'engine> {
    /// Waits for a free slot. Dropping it stops the guest where it is.
    pub(super) async fn new(engine: &'engine Engine, guest: Guest) -> Self {
        let slot = engine.slot().await;
        let bytes_max = guest.grant.limits.call_bytes_max;
        let mut store = Store::new(engine.wasmtime(), guest);
        store.set_hostcall_fuel(bytes_max);
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            charge(store.data_mut())?;
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        Self { store, _slot: slot, _clock: engine.ticker().run() }
    }

    pub(super) async fn instantiate(&mut self, pre: &InstancePre<Guest>) -> wasmtime::Result<Instance> {
        pre.instantiate_async(&mut self.store).await
    }

    pub(super) fn end(self) -> Guest {
        self.store.into_data()
    }
}

/// CallResult when the epoch has moved on while the guest was running.
fn charge(guest: &mut Guest) -> wasmtime::Result<()> {
    if !mem::take(&mut guest.waited) {
        guest.ticks += 1;
    }
    let most = guest.grant.limits.guest_ms_max;
    if guest.ticks.saturating_mul(TICK_MS) <= most {
        return Ok(());
    }
    Err(OverLimit(format!("runs longer than guest_ms_max = {most} ms, host calls not counted")).into())
}

/// Whether it is the pool that was too small, not the guest that failed.
pub(super) fn is_shortage(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>()
}
