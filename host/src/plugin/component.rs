//! A component that is compiled, checked and linked, so that a call only instantiates it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use wasmtime::component::InstancePre;

use super::{
    check::{self, Handlers, WIT_VERSION},
    component_cache::CacheOutcome,
    engine::Engine,
    instance::{ExportIndices, GuestCall},
    trap,
    version::short_digest,
};
use crate::{
    capability::guest::{CallAccess, CallScope, Grant, Guest},
    model::{
        bindings::{
            exports::saga::plugin::{deliveries, requests},
            saga::plugin::{sagas::SagaParam, types::Failure},
        },
        manifest::Manifest,
        policy::Limits,
    },
};

/// The guest's store after a call, and what the call returned.
type Returned<T> = (Guest, wasmtime::Result<Result<Vec<T>, Failure>>);

pub(super) struct LinkedComponent {
    pre: InstancePre<Guest>,
    exports: ExportIndices,
    handlers: Handlers,
}

impl LinkedComponent {
    /// Compiles a component or loads it from the cache, checks its imports and exports, and links it.
    ///
    /// # Errors
    /// What is wrong with the component, in one sentence.
    pub(super) async fn load(
        engine: &Engine,
        file_stem: &str,
        digest: &str,
        bytes: &[u8],
    ) -> Result<Self, String> {
        check::format(bytes)?;
        let (component, cached) = engine.cache().load(engine.wasmtime(), bytes).await.map_err(|error| {
            format!("truncated or damaged, or not a component that this host can compile: {error:#}")
        })?;
        if let CacheOutcome::Compiled(time) = cached {
            tracing::info!(
                plugin = file_stem,
                digest = short_digest(digest),
                ms = time.as_millis(),
                "plugin compiled"
            );
        }
        let world = component.component_type();
        check::imports(world.imports(engine.wasmtime()).map(|(name, _)| name))?;
        let handlers = check::exports(world.exports(engine.wasmtime()).map(|(name, _)| name))?;
        let pre = engine.linker().instantiate_pre(&component).map_err(|error| link_error(&error))?;
        let exports = ExportIndices::find(&pre, handlers).map_err(|error| link_error(&error))?;
        Ok(Self { pre, exports, handlers })
    }

    /// Calls `deliveries.handle` in a fresh instance.
    pub(super) async fn deliveries(
        &self,
        engine: &Engine,
        guest: Guest,
        batch: &[deliveries::Delivery<'_>],
        sagas: &[SagaParam<'_>],
    ) -> Returned<deliveries::Outcome> {
        let mut call = GuestCall::new(engine, guest).await;
        let returned = async {
            let Some(indices) = &self.exports.deliveries else {
                wasmtime::bail!("the plugin exports no saga:plugin/deliveries");
            };
            let instance = call.instantiate(&self.pre).await?;
            let export = indices.load(&mut call.store, &instance)?;
            export.call_handle(&mut call.store, batch, sagas).await
        };
        let returned = returned.await;
        (call.into_guest(), returned)
    }

    /// Calls `requests.handle` in a fresh instance.
    pub(super) async fn requests(
        &self,
        engine: &Engine,
        guest: Guest,
        batch: &[requests::Request<'_>],
    ) -> Returned<requests::Response> {
        let mut call = GuestCall::new(engine, guest).await;
        let returned = async {
            let Some(indices) = &self.exports.requests else {
                wasmtime::bail!("the plugin exports no saga:plugin/requests");
            };
            let instance = call.instantiate(&self.pre).await?;
            let export = indices.load(&mut call.store, &instance)?;
            export.call_handle(&mut call.store, batch).await
        };
        let returned = returned.await;
        (call.into_guest(), returned)
    }

    /// Calls `manifest.describe` without any access and checks the manifest by itself.
    ///
    /// # Errors
    /// What is wrong with the manifest, or why there is none, in one sentence.
    pub(super) async fn describe(&self, engine: &Engine, limits: Limits) -> Result<Manifest, String> {
        let call_bytes_max = limits.call_bytes_max;
        let time_max = Duration::from_millis(u64::from(limits.unit_ms_max));
        let grant = Arc::new(Grant { limits, ..Grant::default() });
        let scope =
            CallScope { access: CallAccess::None, unit: "describe", now_us: 0, causes: 0, first_id: "" };
        let mut call = GuestCall::new(engine, Guest::new(grant, None, &scope)).await;
        let deadline = Instant::now() + time_max;
        let described = timeout_at(deadline, async {
            let instance = call.instantiate(&self.pre).await?;
            let export = self.exports.manifest.load(&mut call.store, &instance)?;
            export.call_describe(&mut call.store).await
        });
        let description = match described.await {
            Err(_) => return Err(format!("describe() takes longer than {} ms", time_max.as_millis())),
            Ok(Err(error)) => {
                let printed = call.into_guest().output.text();
                return Err(format!("describe() failed: {}", trap::reason(&error, &printed, call_bytes_max)));
            }
            Ok(Ok(description)) => description,
        };
        let (manifest, extensions) = Manifest::of(description);
        check::manifest(&manifest, self.handlers, &extensions)?;
        Ok(manifest)
    }
}

/// Why a component cannot be linked: it imports a function or type that only a later host provides.
fn link_error(error: &wasmtime::Error) -> String {
    format!(
        "imports what this host (saga:plugin {WIT_VERSION}) does not provide, upgrade the host: {error:#}"
    )
}
