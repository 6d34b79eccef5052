//! Plugins that are compiled into the host's program, for measuring what WebAssembly costs.
//!
//! The same source runs behind the same capabilities, in the same units; only the call differs. The component
//! of that name is loaded all the same, since it says what the plugin asks for. `saga-host` has no such
//! plugins: a program that does installs them before it runs the command line.
//!
//! Of the limits those hold that the capabilities count. Guest time, memory and the time of a unit do not:
//! nothing can stop native code.

use std::sync::OnceLock;

use crate::{
    capability::Guest,
    model::bindings::{
        exports::saga::plugin::{
            deliveries::{Delivery, Outcome},
            requests::{Request, Response},
        },
        saga::plugin::{sagas::SagaParam, types::Failure},
    },
};

/// The exports of `wit/plugin.wit` that lanes call, as native code. Imports are called on the [`Guest`].
///
/// Both run on a thread of the runtime that has been given up to waiting: they may block it.
pub trait NativePlugin: Sync {
    /// Handles a batch of deliveries.
    ///
    /// # Errors
    /// What would trap in a component.
    fn deliveries(
        &self,
        guest: &mut Guest,
        batch: &[Delivery<'_>],
        sagas: &[SagaParam<'_>],
    ) -> wasmtime::Result<Result<Vec<Outcome>, Failure>>;

    /// Handles a batch of requests.
    ///
    /// # Errors
    /// What would trap in a component.
    fn requests(
        &self,
        guest: &mut Guest,
        batch: &[Request<'_>],
    ) -> wasmtime::Result<Result<Vec<Response>, Failure>>;
}

/// Finds the plugin of a name.
pub type Find = fn(&str) -> Option<&'static dyn NativePlugin>;

static INSTALLED: OnceLock<Find> = OnceLock::new();

/// Has versions that are loaded from now on run native code where there is some. The first call counts.
pub fn install(find: Find) {
    INSTALLED.get_or_init(|| find);
}

pub(super) fn find(name: &str) -> Option<&'static dyn NativePlugin> {
    let plugin = INSTALLED.get().and_then(|find| find(name))?;
    tracing::warn!(plugin = name, "plugin runs as native code: its limits do not hold");
    Some(plugin)
}

/// Runs a call to its end on this thread, whose other tasks go to another one; each statement is waited for
/// here. A component waits on a stack that is put aside, without either: so far the comparison makes
/// WebAssembly look cheaper than it is.
pub(super) fn call<T>(mut guest: Guest, call: impl FnOnce(&mut Guest) -> T) -> (Guest, T) {
    let returned = tokio::task::block_in_place(|| call(&mut guest));
    (guest, returned)
}
