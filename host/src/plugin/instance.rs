//! One call of a guest: a fresh instance whose guest time is measured and whose memory is bounded.

use std::mem;

use tokio::sync::SemaphorePermit;
use wasmtime::{
    PoolConcurrencyLimitError, Store, UpdateDeadline,
    component::{Instance, InstancePre},
};

use super::{
    check::Handlers,
    engine::Engine,
    ticker::{TICK_MS, TickGuard},
};
use crate::{
    capability::guest::{Guest, OverLimit},
    model::bindings::exports::saga::plugin::{deliveries, manifest, requests},
};

/// Where a component's exports are found in an instance of it.
pub(super) struct ExportIndices {
    pub(super) manifest: manifest::GuestIndices,
    pub(super) deliveries: Option<deliveries::GuestIndices>,
    pub(super) requests: Option<requests::GuestIndices>,
}

impl ExportIndices {
    pub(super) fn find(pre: &InstancePre<Guest>, handlers: Handlers) -> wasmtime::Result<Self> {
        Ok(Self {
            manifest: manifest::GuestIndices::new(pre)?,
            deliveries: handlers.deliveries.then(|| deliveries::GuestIndices::new(pre)).transpose()?,
            requests: handlers.requests.then(|| requests::GuestIndices::new(pre)).transpose()?,
        })
    }
}

/// The store of one call, with a slot of the instance pool. Dropping it stops the guest in mid-call.
pub(super) struct GuestCall<'engine> {
    pub(super) store: Store<Guest>,
    _slot: Option<SemaphorePermit<'engine>>,
    _clock: TickGuard<'engine>,
}

impl<'engine> GuestCall<'engine> {
    /// Waits for a free slot.
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
        Self { store, _slot: slot, _clock: engine.ticker().keep_awake() }
    }

    pub(super) async fn instantiate(&mut self, pre: &InstancePre<Guest>) -> wasmtime::Result<Instance> {
        pre.instantiate_async(&mut self.store).await
    }

    pub(super) fn into_guest(self) -> Guest {
        self.store.into_data()
    }
}

/// Charges one tick: the epoch has changed while the guest was running.
fn charge(guest: &mut Guest) -> wasmtime::Result<()> {
    if !mem::take(&mut guest.waited) {
        guest.ticks += 1;
    }
    let guest_ms_max = guest.grant.limits.guest_ms_max;
    if guest.ticks.saturating_mul(TICK_MS) <= guest_ms_max {
        return Ok(());
    }
    Err(OverLimit(format!("runs longer than guest_ms_max = {guest_ms_max} ms, host calls not counted"))
        .into())
}

/// Whether the instance pool is exhausted, which is no fault of the guest.
pub(super) fn is_pool_exhausted(error: &wasmtime::Error) -> bool {
    error.is::<PoolConcurrencyLimitError>()
}
