//! One version of a plugin, ready to run: a compiled component, its manifest and its policy.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};
use wasmtime::component::InstancePre;

use super::{
    call::{CallContext, CallResult},
    check::{self, Exported},
    component_cache::Origin,
    engine::Engine,
    instance::{Call, Exports, is_shortage},
    lift,
    lower::{self, Headers, RequestParts, SagaIndex},
    native::{self, NativePlugin},
};
use crate::{
    capability::{
        context::Speaker,
        guest::{Access, Grant, Guest, Setting, Shared},
    },
    model::{
        bindings::{
            exports::saga::plugin::{deliveries, requests},
            saga::plugin::{sagas::SagaParam, types::Failure},
        },
        delivery::Delivery,
        effects::Effects,
        fault::Fault,
        manifest::Manifest,
        outcome::Outcome,
        policy::{Limits, Policy},
        rejection::Rejection,
        request::{Request, Response},
        saga::LiveSaga,
    },
    store::session::Session,
};

/// Beyond `unit_ms_max`: Postgres cancels a long statement at `unit_ms_max`, and its answer is
/// better than a connection that was cut.
const GRACE: Duration = Duration::from_millis(250);

/// One version of a plugin.
pub struct Version {
    /// The plugin's name.
    pub plugin: String,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    /// What the plugin asks for.
    pub manifest: Manifest,
    /// What the operator grants.
    pub policy: Arc<Policy>,
    engine: Engine,
    component: Component,
    /// Runs instead of the component, where what WebAssembly costs is measured.
    native: Option<&'static dyn NativePlugin>,
    grant: Arc<Grant>,
}

/// A component that is linked: each call only instantiates it.
struct Component {
    pre: InstancePre<Guest>,
    exports: Exports,
    exported: Exported,
}

/// What a call leaves, and what it returned.
type Returned<T> = (Guest, wasmtime::Result<Result<Vec<T>, Failure>>);

impl Version {
    /// Compiles a component (or takes it from the cache), asks it what it wants and checks that.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub async fn load(
        engine: &Engine,
        file_stem: &str,
        bytes: &[u8],
        policy: Arc<Policy>,
    ) -> Result<Self, Rejection> {
        let digest = hex::encode(Sha256::digest(bytes));
        let component = Component::load(engine, file_stem, &digest, bytes).await.map_err(Rejection)?;
        let manifest = component.describe(engine, policy.limits.clone()).await.map_err(Rejection)?;
        for warning in check::against_policy(file_stem, &manifest, &policy).map_err(Rejection)? {
            tracing::warn!(plugin = file_stem, digest = short(&digest), reason = warning, "plugin checked");
        }
        let grant = Arc::new(Grant {
            plugin: file_stem.to_owned(),
            digest: digest.clone(),
            write: policy.kafka.write.clone(),
            publishes: manifest.publishes.clone(),
            sagas: manifest.sagas.clone(),
            limits: policy.limits.clone(),
            config: policy.config.clone(),
        });
        let (plugin, native) = (file_stem.to_owned(), native::find(file_stem));
        Ok(Self { plugin, digest, manifest, policy, engine: engine.clone(), component, native, grant })
    }

    /// What a component asks for, before there is a policy for it.
    ///
    /// # Errors
    /// One sentence for the operator.
    pub async fn describe(engine: &Engine, file_stem: &str, bytes: &[u8]) -> Result<Manifest, Rejection> {
        let digest = hex::encode(Sha256::digest(bytes));
        let component = Component::load(engine, file_stem, &digest, bytes).await.map_err(Rejection)?;
        component.describe(engine, Limits::default()).await.map_err(Rejection)
    }

    /// Hands a batch of deliveries to a fresh instance. `sagas` are those that the deliveries
    /// correlate with (type, key). Dropping the call closes the session's connection.
    pub async fn handle_deliveries(
        &self,
        session: Session,
        setting: &CallContext,
        batch: &[&Delivery],
        sagas: &[LiveSaga],
    ) -> CallResult<Vec<Outcome>> {
        let first_id = batch.first().map_or("", |delivery| &delivery.id);
        let guest = self.guest(session, setting, batch.len(), first_id);
        let shared = Arc::clone(&guest.shared);
        let called = self.within_time(&shared, self.call_deliveries(guest, batch, sagas)).await;
        self.write_lines(&shared, setting, |cause| {
            batch.get(cause as usize).map(|delivery| (delivery.id.clone(), delivery.trace.id()))
        });
        called
    }

    /// Hands a batch of requests to a fresh instance. Dropping the call closes the session's
    /// connection.
    pub async fn handle_requests(
        &self,
        session: Session,
        setting: &CallContext,
        batch: &[&Request],
    ) -> CallResult<Vec<Response>> {
        let first_id = batch.first().map_or("", |request| &request.id);
        let guest = self.guest(session, setting, batch.len(), first_id);
        let shared = Arc::clone(&guest.shared);
        let called = self.within_time(&shared, self.call_requests(guest, batch)).await;
        self.write_lines(&shared, setting, |cause| {
            batch.get(cause as usize).map(|request| (request.id.clone(), String::new()))
        });
        called
    }

    fn guest(&self, session: Session, setting: &CallContext, causes: usize, first_id: &str) -> Guest {
        let setting = Setting {
            access: if setting.read_only { Access::Read } else { Access::Write },
            unit: &setting.unit,
            now_us: setting.now_us,
            causes: u32::try_from(causes).unwrap_or(u32::MAX),
            first_id,
        };
        Guest::new(Arc::clone(&self.grant), Some(session), &setting)
    }

    async fn call_deliveries(
        &self,
        guest: Guest,
        batch: &[&Delivery],
        sagas: &[LiveSaga],
    ) -> CallResult<Vec<Outcome>> {
        let headers = Headers::of(batch.iter().map(|delivery| &delivery.headers));
        let deliveries = lower::deliveries(batch, &headers, &SagaIndex::of(sagas));
        let live = lower::sagas(sagas);
        let (guest, returned) = match self.native {
            None => self.component.deliveries(&self.engine, guest, &deliveries, &live).await,
            Some(plugin) => native::call(guest, |guest| plugin.deliveries(guest, &deliveries, &live)),
        };
        finish(guest, returned, |guest, returned| {
            let outcomes = lift::answers(guest, returned)?.into_iter().map(lower::outcome).collect();
            lift::outcomes(outcomes, &guest.effects, sagas)
        })
    }

    async fn call_requests(&self, guest: Guest, batch: &[&Request]) -> CallResult<Vec<Response>> {
        let parts: Vec<_> = batch.iter().copied().map(RequestParts::of).collect();
        let requests = lower::requests(batch, &parts);
        let (guest, returned) = match self.native {
            None => self.component.requests(&self.engine, guest, &requests).await,
            Some(plugin) => native::call(guest, |guest| plugin.requests(guest, &requests)),
        };
        finish(guest, returned, |guest, returned| {
            let responses = lift::answers(guest, returned)?.into_iter().map(lower::response).collect();
            lift::responses(responses, &guest.effects)
        })
    }

    /// Cuts a call off; its connection is dropped with it, in the middle of whatever it was doing.
    async fn within_time<T>(
        &self,
        shared: &Shared,
        call: impl Future<Output = CallResult<T>>,
    ) -> CallResult<T> {
        let unit_ms_max = self.policy.limits.unit_ms_max;
        let unit = Duration::from_millis(u64::from(unit_ms_max));
        if let Ok(called) = timeout(unit + GRACE, call).await {
            return called;
        }
        let silent = shared.statement.lock().is_some_and(|begun| begun.elapsed() >= unit);
        let fault = if silent {
            Fault::Environment(format!(
                "Postgres has neither answered nor cancelled a statement for {unit_ms_max} ms"
            ))
        } else {
            Fault::Guest(format!("takes longer than unit_ms_max = {unit_ms_max} ms, Postgres included"))
        };
        CallResult { session: None, effects: Effects::default(), statements: 0, result: Err(fault) }
    }

    fn write_lines(
        &self,
        shared: &Shared,
        setting: &CallContext,
        name: impl Fn(u32) -> Option<(String, String)>,
    ) {
        let speaker = Speaker {
            plugin: &self.plugin,
            digest: short(&self.digest),
            unit: &setting.unit,
            log_lines_max: self.policy.limits.log_lines_max,
        };
        std::mem::take(&mut *shared.lines.lock()).write(speaker, name);
    }
}

/// Takes apart what the call leaves.
fn finish<R, T>(
    mut guest: Guest,
    returned: wasmtime::Result<R>,
    judge: impl FnOnce(&Guest, wasmtime::Result<R>) -> Result<T, Fault>,
) -> CallResult<T> {
    let result = match returned {
        Err(error) if is_shortage(&error) => Err(Fault::Environment(error.to_string())),
        returned => judge(&guest, returned),
    };
    CallResult {
        session: guest.session.take(),
        effects: std::mem::take(&mut guest.effects),
        statements: guest.statements,
        result,
    }
}

/// As people see a digest.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

impl Component {
    async fn load(engine: &Engine, stem: &str, digest: &str, bytes: &[u8]) -> Result<Self, String> {
        check::form(bytes)?;
        let (component, origin) = engine.cache().load(engine.wasmtime(), bytes).await.map_err(|error| {
            format!("cut off, damaged, or not a component that this host can compile: {error:#}")
        })?;
        if let Origin::Compiled(time) = origin {
            tracing::info!(plugin = stem, digest = short(digest), ms = time.as_millis(), "plugin compiled");
        }
        let form = component.component_type();
        check::imports(form.imports(engine.wasmtime()).map(|(name, _)| name))?;
        let exported = check::exports(form.exports(engine.wasmtime()).map(|(name, _)| name))?;
        let pre = engine.linker().instantiate_pre(&component).map_err(|error| lift::unlinked(&error))?;
        let exports = Exports::find(&pre, exported).map_err(|error| lift::unlinked(&error))?;
        Ok(Self { pre, exports, exported })
    }

    async fn deliveries(
        &self,
        engine: &Engine,
        guest: Guest,
        batch: &[deliveries::Delivery<'_>],
        sagas: &[SagaParam<'_>],
    ) -> Returned<deliveries::Outcome> {
        let mut call = Call::new(engine, guest).await;
        let returned = async {
            let Some(indices) = &self.exports.deliveries else {
                wasmtime::bail!("it exports no saga:plugin/deliveries");
            };
            let instance = call.instantiate(&self.pre).await?;
            let export = indices.load(&mut call.store, &instance)?;
            export.call_handle(&mut call.store, batch, sagas).await
        };
        let returned = returned.await;
        (call.end(), returned)
    }

    async fn requests(
        &self,
        engine: &Engine,
        guest: Guest,
        batch: &[requests::Request<'_>],
    ) -> Returned<requests::Response> {
        let mut call = Call::new(engine, guest).await;
        let returned = async {
            let Some(indices) = &self.exports.requests else {
                wasmtime::bail!("it exports no saga:plugin/requests");
            };
            let instance = call.instantiate(&self.pre).await?;
            let export = indices.load(&mut call.store, &instance)?;
            export.call_handle(&mut call.store, batch).await
        };
        let returned = returned.await;
        (call.end(), returned)
    }

    /// Calls `describe` with nothing granted and checks what it says by itself.
    async fn describe(&self, engine: &Engine, limits: Limits) -> Result<Manifest, String> {
        let call_bytes_max = limits.call_bytes_max;
        let unit = Duration::from_millis(u64::from(limits.unit_ms_max));
        let grant = Arc::new(Grant { limits, ..Grant::default() });
        let setting = Setting { access: Access::None, unit: "describe", now_us: 0, causes: 0, first_id: "" };
        let mut call = Call::new(engine, Guest::new(grant, None, &setting)).await;
        let until = Instant::now() + unit;
        let described = tokio::time::timeout_at(until, async {
            let instance = call.instantiate(&self.pre).await?;
            let export = self.exports.manifest.load(&mut call.store, &instance)?;
            export.call_describe(&mut call.store).await
        });
        let description = match described.await {
            Err(_) => return Err(format!("describe() takes longer than {} ms", unit.as_millis())),
            Ok(Err(error)) => {
                let printed = call.end().output.text();
                return Err(format!(
                    "describe() failed: {}",
                    lift::stopped(&error, &printed, call_bytes_max)
                ));
            }
            Ok(Ok(description)) => description,
        };
        let (manifest, extensions) = Manifest::of(description);
        check::manifest(&manifest, self.exported, &extensions)?;
        Ok(manifest)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Version")
            .field("plugin", &self.plugin)
            .field("digest", &self.digest)
            .field("version", &self.manifest.version)
            .finish_non_exhaustive()
    }
}
