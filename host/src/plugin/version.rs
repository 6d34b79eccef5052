//! One version of a plugin, ready to run: a linked component, its manifest and its policy.

use std::{fmt, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    call::{CallContext, CallResult},
    check,
    component::LinkedComponent,
    engine::Engine,
    instance::is_pool_exhausted,
    lift,
    lower::{self, Headers, RequestParts, SagaIndex},
};
use crate::{
    capability::{
        context::LogSource,
        guest::{CallAccess, CallProgress, CallScope, Grant, Guest},
    },
    model::{
        delivery::Delivery,
        effects::Effects,
        fault::{Fault, Suspicion},
        manifest::Manifest,
        outcome::Outcome,
        policy::{Limits, Policy},
        rejection::Rejection,
        request::{Request, Response},
        saga::LiveSaga,
        sqlstate::Unclear,
    },
    store::session::Session,
};

/// How much longer than `unit_ms_max` the host waits: at `unit_ms_max` Postgres cancels a long statement, and
/// its answer is better than a closed connection.
const CANCEL_GRACE: Duration = Duration::from_millis(250);

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
    component: LinkedComponent,
    grant: Arc<Grant>,
}

impl Version {
    /// Compiles a component or loads it from the cache, calls its `describe`, and checks the manifest against
    /// `policy`. `file_stem` is the plugin's name.
    ///
    /// # Errors
    /// Why the component is rejected.
    pub async fn load(
        engine: &Engine,
        file_stem: &str,
        bytes: &[u8],
        policy: Arc<Policy>,
    ) -> Result<Self, Rejection> {
        let digest = hex::encode(Sha256::digest(bytes));
        let component = LinkedComponent::load(engine, file_stem, &digest, bytes).await.map_err(Rejection)?;
        let manifest = component.describe(engine, policy.limits.clone()).await.map_err(Rejection)?;
        for warning in check::grants(file_stem, &manifest, &policy).map_err(Rejection)? {
            tracing::warn!(
                plugin = file_stem,
                digest = short_digest(&digest),
                reason = warning,
                "plugin has a grant that it does not use"
            );
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
        let plugin = file_stem.to_owned();
        Ok(Self { plugin, digest, manifest, policy, engine: engine.clone(), component, grant })
    }

    /// The manifest of a component, before there is a policy for it.
    ///
    /// # Errors
    /// Why the component is rejected.
    pub async fn describe(engine: &Engine, file_stem: &str, bytes: &[u8]) -> Result<Manifest, Rejection> {
        let digest = hex::encode(Sha256::digest(bytes));
        let component = LinkedComponent::load(engine, file_stem, &digest, bytes).await.map_err(Rejection)?;
        component.describe(engine, Limits::default()).await.map_err(Rejection)
    }

    /// Passes a batch of deliveries to a fresh instance. `sagas` are those that the deliveries correlate
    /// with. Cancelling the call closes the session's connection.
    pub async fn handle_deliveries(
        &self,
        session: Session,
        context: &CallContext,
        batch: &[&Delivery],
        sagas: &[LiveSaga],
    ) -> CallResult<Vec<Outcome>> {
        let first_id = batch.first().map_or("", |delivery| &delivery.id);
        let guest = self.guest(session, context, batch.len(), first_id);
        let progress = Arc::clone(&guest.progress);
        let called = self.within_time(&progress, self.call_deliveries(guest, batch, sagas)).await;
        self.write_log(&progress, context, |cause| {
            batch.get(cause as usize).map(|delivery| (delivery.id.clone(), delivery.trace.id()))
        });
        called
    }

    /// Passes a batch of requests to a fresh instance. Cancelling the call closes the session's connection.
    pub async fn handle_requests(
        &self,
        session: Session,
        context: &CallContext,
        batch: &[&Request],
    ) -> CallResult<Vec<Response>> {
        let first_id = batch.first().map_or("", |request| &request.id);
        let guest = self.guest(session, context, batch.len(), first_id);
        let progress = Arc::clone(&guest.progress);
        let called = self.within_time(&progress, self.call_requests(guest, batch)).await;
        self.write_log(&progress, context, |cause| {
            batch.get(cause as usize).map(|request| (request.id.clone(), String::new()))
        });
        called
    }

    fn guest(&self, session: Session, context: &CallContext, causes: usize, first_id: &str) -> Guest {
        let call = CallScope {
            access: if context.read_only { CallAccess::Read } else { CallAccess::Write },
            unit: &context.unit,
            now_us: context.now_us,
            causes: u32::try_from(causes).unwrap_or(u32::MAX),
            first_id,
        };
        Guest::new(Arc::clone(&self.grant), Some(session), &call)
    }

    async fn call_deliveries(
        &self,
        guest: Guest,
        batch: &[&Delivery],
        sagas: &[LiveSaga],
    ) -> CallResult<Vec<Outcome>> {
        let headers = Headers::new(batch.iter().map(|delivery| &delivery.headers));
        let deliveries = lower::deliveries(batch, &headers, &SagaIndex::of(sagas));
        let live = lower::sagas(sagas);
        let (guest, returned) = self.component.deliveries(&self.engine, guest, &deliveries, &live).await;
        finish(guest, returned, |guest, returned| {
            let outcomes = lift::answers(guest, returned)?.into_iter().map(lift::outcome).collect();
            lift::outcomes(outcomes, &guest.effects, sagas)
        })
    }

    async fn call_requests(&self, guest: Guest, batch: &[&Request]) -> CallResult<Vec<Response>> {
        let parts: Vec<_> = batch.iter().copied().map(RequestParts::new).collect();
        let requests = lower::requests(batch, &parts);
        let (guest, returned) = self.component.requests(&self.engine, guest, &requests).await;
        finish(guest, returned, |guest, returned| {
            let responses = lift::answers(guest, returned)?.into_iter().map(lift::response).collect();
            lift::responses(responses, &guest.effects)
        })
    }

    /// Cancels a call that takes too long, which closes its connection in mid-statement.
    async fn within_time<T>(
        &self,
        progress: &CallProgress,
        call: impl Future<Output = CallResult<T>>,
    ) -> CallResult<T> {
        let unit_ms_max = self.policy.limits.unit_ms_max;
        let unit = Duration::from_millis(u64::from(unit_ms_max));
        if let Ok(called) = timeout(unit + CANCEL_GRACE, call).await {
            return called;
        }
        let postgres_hangs = progress.statement.lock().is_some_and(|started_at| started_at.elapsed() >= unit);
        let fault = if postgres_hangs {
            Fault::Environment(format!(
                "Postgres has neither answered nor cancelled a statement for {unit_ms_max} ms"
            ))
        } else {
            // The guest's own time has a limit of its own: most of this went by in Postgres.
            let reason = format!("takes longer than unit_ms_max = {unit_ms_max} ms, Postgres included");
            Fault::Suspect(Suspicion { kind: Unclear::Timeout, reason })
        };
        CallResult { session: None, effects: Effects::default(), statements: 0, result: Err(fault) }
    }

    fn write_log(
        &self,
        progress: &CallProgress,
        context: &CallContext,
        name: impl Fn(u32) -> Option<(String, String)>,
    ) {
        let source = LogSource {
            plugin: &self.plugin,
            digest: short_digest(&self.digest),
            unit: &context.unit,
            log_lines_max: self.policy.limits.log_lines_max,
        };
        std::mem::take(&mut *progress.lines.lock()).write(source, name);
    }
}

/// Lifts the result of a call and takes the rest out of the guest's store.
fn finish<R, T>(
    mut guest: Guest,
    returned: wasmtime::Result<R>,
    lift: impl FnOnce(&Guest, wasmtime::Result<R>) -> Result<T, Fault>,
) -> CallResult<T> {
    let result = match returned {
        Err(error) if is_pool_exhausted(&error) => Err(Fault::Environment(error.to_string())),
        returned => lift(&guest, returned),
    };
    CallResult {
        session: guest.session.take(),
        effects: std::mem::take(&mut guest.effects),
        statements: guest.statements,
        result,
    }
}

/// The part of a digest that logs show.
pub(super) fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
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
