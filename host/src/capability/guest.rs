//! What the host keeps for one call of a guest: its session, its limits, and what it asked for.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    context::Lines,
    output::Output,
    random::Randomness,
    refusal::{READ_ONLY, UNIT_FULL, refuse},
    sagas::Chains,
    wasi,
};
use crate::{
    model::{bindings::saga::plugin::types::Refusal, effects::Effects, policy::Limits},
    store::session::Session,
};

/// What a version may do: what its manifest asks for within its policy.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    pub(crate) plugin: String,
    pub(crate) digest: String,
    /// Topics that the policy lets it publish to.
    pub(crate) write: Vec<String>,
    /// Those of them that it says it publishes to.
    pub(crate) publishes: Vec<String>,
    /// Saga types that it owns.
    pub(crate) sagas: Vec<String>,
    pub(crate) limits: Limits,
    /// What `context.config` answers.
    pub(crate) config: BTreeMap<String, String>,
}

/// What a call may do with the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: `describe`.
    None,
    /// Read in a read-only transaction.
    Read,
    /// Everything that the policy grants.
    Write,
}

/// What the host fixes for one call.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) access: Access,
    pub(crate) unit: &'a str,
    pub(crate) now_us: i64,
    /// Deliveries or requests in the call.
    pub(crate) causes: u32,
    /// Tells this call from another of the same unit and version.
    pub(crate) first_id: &'a str,
}

/// What can still be read when the call was cut off.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) lines: Mutex<Lines>,
    /// When the statement began that is running in Postgres.
    pub(crate) statement: Mutex<Option<Instant>>,
}

/// Data of a wasmtime store: everything here lives as long as one call. It is what a plugin's imports
/// are called on: it implements the `Host` traits of [`crate::model::bindings`].
pub struct Guest {
    pub(crate) grant: Arc<Grant>,
    pub(crate) session: Option<Session>,
    pub(crate) access: Access,
    pub(crate) now_us: i64,
    pub(crate) causes: u32,
    pub(crate) effects: Effects,
    effect_bytes: usize,
    pub(crate) chains: Chains,
    pub(crate) statements: u32,
    /// The first that Postgres reported: the transaction is lost.
    pub(crate) sql_error: Option<SqlFailure>,
    pub(crate) random: Randomness,
    pub(crate) shared: Arc<Shared>,
    pub(crate) output: Output,
    pub(crate) memory: Memory,
    /// Ticks of the guest clock that were charged.
    pub(crate) ticks: u32,
    /// It has just come back from waiting in the host: that tick is not its own.
    pub(crate) waited: bool,
    wasi: WasiCtx,
    table: ResourceTable,
}

/// An error of Postgres that a guest saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct SqlFailure {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
}

/// A limit that a guest ran into; the text names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OverLimit(pub(crate) String);

impl Guest {
    pub(crate) fn new(grant: Arc<Grant>, session: Option<Session>, setting: &Setting<'_>) -> Self {
        let output = Output::default();
        let mut seed = Sha256::new();
        for part in [setting.unit, &grant.digest, setting.first_id] {
            seed.update(part);
            seed.update([0]);
        }
        let random = Randomness::new(seed.finalize().into());
        let wasi = wasi::context(&output, setting.now_us, &random);
        Self {
            memory: Memory { mib_max: grant.limits.memory_mib_max },
            grant,
            session,
            access: setting.access,
            now_us: setting.now_us,
            causes: setting.causes,
            effects: Effects::default(),
            effect_bytes: 0,
            chains: Chains::default(),
            statements: 0,
            sql_error: None,
            random,
            shared: Arc::default(),
            output,
            ticks: 0,
            waited: false,
            wasi,
            table: ResourceTable::new(),
        }
    }

    /// Refuses in a `GET`; traps in `describe`, which must not depend on anything.
    pub(super) fn writable(&self, what: &str) -> wasmtime::Result<Result<(), Refusal>> {
        match self.access {
            Access::Write => Ok(Ok(())),
            Access::Read => Ok(Err(refuse(READ_ONLY, None, format!("{what} in a read-only request")))),
            Access::None => Err(OverLimit(format!("describe() called {what}: it may call nothing")).into()),
        }
    }

    /// Counts bytes that are kept until the unit closes.
    pub(super) fn keep(&mut self, bytes: usize, cause: Option<u32>) -> Result<(), Refusal> {
        let bytes_max = self.grant.limits.call_bytes_max;
        self.effect_bytes = self.effect_bytes.saturating_add(bytes);
        if self.effect_bytes <= bytes_max {
            return Ok(());
        }
        Err(refuse(
            UNIT_FULL,
            cause,
            format!("more than call_bytes_max = {bytes_max} bytes of effects in one unit"),
        ))
    }

    pub(super) fn known_cause(&self, cause: u32) -> Result<(), Refusal> {
        if cause < self.causes {
            return Ok(());
        }
        let message = format!("cause {cause} in a batch of {}", self.causes);
        Err(refuse(super::refusal::NO_SUCH_CAUSE, Some(cause), message))
    }

    /// Counts a statement before it runs.
    pub(super) fn begin_statement(&mut self) -> wasmtime::Result<()> {
        let most = self.grant.limits.statements_max;
        if self.statements >= most {
            return Err(
                OverLimit(format!("more than statements_max = {most} SQL statements in one call")).into()
            );
        }
        self.statements += 1;
        *self.shared.statement.lock() = Some(Instant::now());
        Ok(())
    }

    /// Notes that Postgres has answered, and the error if it is the first.
    pub(super) fn end_statement(&mut self, error: Option<(&str, &str)>) {
        *self.shared.statement.lock() = None;
        self.waited = true;
        if let (Some((sqlstate, message)), None) = (error, &self.sql_error) {
            self.sql_error = Some(SqlFailure { sqlstate: sqlstate.to_owned(), message: message.to_owned() });
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guest").field("plugin", &self.grant.plugin).finish_non_exhaustive()
    }
}

/// Bounds the memory of an instance; a guest that asks for more is stopped there, since its own
/// allocator would only abort without a word.
#[derive(Debug)]
pub(crate) struct Memory {
    mib_max: u32,
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired <= (self.mib_max as usize) << 20 {
            return Ok(true);
        }
        let message =
            format!("needs {} MiB of memory, over memory_mib_max = {}", desired >> 20, self.mib_max);
        Err(OverLimit(message).into())
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
