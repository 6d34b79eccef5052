//! The state of one call of a guest: its session, its limits, and its effects.

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
    sagas::SagaRevisions,
    wasi,
};
use crate::{
    model::{bindings::saga::plugin::types::Refusal, effects::Effects, policy::Limits, sqlstate::Cause},
    store::session::Session,
};

/// What a version may do: what its manifest asks for, within its policy.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    pub(crate) plugin: String,
    pub(crate) digest: String,
    /// Topics that the policy grants for publishing.
    pub(crate) write: Vec<String>,
    /// Topics that `describe` lists as published, all granted.
    pub(crate) publishes: Vec<String>,
    /// Saga types that `describe` lists.
    pub(crate) sagas: Vec<String>,
    pub(crate) limits: Limits,
    /// The settings that `context.config` returns.
    pub(crate) config: BTreeMap<String, String>,
}

/// What a call may do with the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallAccess {
    /// Nothing: in `describe`.
    None,
    /// SQL in a read-only transaction, no effects.
    Read,
    /// Everything that the policy grants.
    Write,
}

/// The values that the host fixes for one call.
#[derive(Debug)]
pub(crate) struct CallScope<'a> {
    pub(crate) access: CallAccess,
    pub(crate) unit: &'a str,
    pub(crate) now_us: i64,
    /// Deliveries or requests in the call.
    pub(crate) causes: u32,
    /// The id of the first delivery or request: it makes the seed differ from another call of the same unit
    /// and version.
    pub(crate) first_id: &'a str,
}

/// What the host reads of a call that it has cut off.
#[derive(Debug, Default)]
pub(crate) struct CallProgress {
    pub(crate) lines: Mutex<Lines>,
    /// When the statement that runs in Postgres was started.
    pub(crate) statement: Mutex<Option<Instant>>,
}

/// The data of a wasmtime store, which lives as long as one call. A plugin's imports are called on it: it
/// implements the `Host` traits of [`crate::model::bindings`].
pub struct Guest {
    pub(crate) grant: Arc<Grant>,
    pub(crate) session: Option<Session>,
    pub(crate) access: CallAccess,
    pub(crate) now_us: i64,
    pub(crate) causes: u32,
    pub(crate) effects: Effects,
    effect_bytes: usize,
    pub(crate) revisions: SagaRevisions,
    pub(crate) statements: u32,
    /// The first error of Postgres: the transaction is lost.
    pub(crate) sql_error: Option<SqlFailure>,
    pub(crate) random: Randomness,
    pub(crate) progress: Arc<CallProgress>,
    pub(crate) output: Output,
    pub(crate) memory: Memory,
    /// Ticks of the guest clock that this call was charged.
    pub(crate) ticks: u32,
    /// It has just waited in the host: the next tick is not charged.
    pub(crate) waited: bool,
    wasi: WasiCtx,
    table: ResourceTable,
}

/// An error of Postgres that a guest saw.
#[derive(Clone, Debug)]
pub(crate) struct SqlFailure {
    pub(crate) cause: Cause,
    pub(crate) sqlstate: String,
    pub(crate) message: String,
}

/// A guest is over a limit; the text names the limit.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OverLimit(pub(crate) String);

impl Guest {
    pub(crate) fn new(grant: Arc<Grant>, session: Option<Session>, call: &CallScope<'_>) -> Self {
        let output = Output::default();
        let mut seed = Sha256::new();
        for part in [call.unit, &grant.digest, call.first_id] {
            seed.update(part);
            seed.update([0]);
        }
        let random = Randomness::new(seed.finalize().into());
        let wasi = wasi::context(&output, call.now_us, &random);
        Self {
            memory: Memory { mib_max: grant.limits.memory_mib_max },
            grant,
            session,
            access: call.access,
            now_us: call.now_us,
            causes: call.causes,
            effects: Effects::default(),
            effect_bytes: 0,
            revisions: SagaRevisions::default(),
            statements: 0,
            sql_error: None,
            random,
            progress: Arc::default(),
            output,
            ticks: 0,
            waited: false,
            wasi,
            table: ResourceTable::new(),
        }
    }

    /// Refuses effects in a read-only request. In `describe`, which must not depend on anything, the call
    /// traps.
    pub(super) fn writable(&self, what: &str) -> wasmtime::Result<Result<(), Refusal>> {
        match self.access {
            CallAccess::Write => Ok(Ok(())),
            CallAccess::Read => Ok(Err(refuse(READ_ONLY, None, format!("{what} in a read-only request")))),
            CallAccess::None => {
                Err(OverLimit(format!("describe() called {what}: it may call nothing")).into())
            }
        }
    }

    /// Counts the bytes of an effect, which is buffered until the unit is written.
    pub(super) fn reserve(&mut self, bytes: usize, cause: Option<u32>) -> Result<(), Refusal> {
        let bytes_max = self.grant.limits.call_bytes_max;
        self.effect_bytes = self.effect_bytes.saturating_add(bytes);
        if self.effect_bytes <= bytes_max {
            return Ok(());
        }
        Err(refuse(
            UNIT_FULL,
            cause,
            format!("more than call_bytes_max = {bytes_max} bytes of effects in one call"),
        ))
    }

    /// Refuses a cause that is not a place in the batch.
    pub(super) fn known_cause(&self, cause: u32) -> Result<(), Refusal> {
        if cause < self.causes {
            return Ok(());
        }
        let message = format!("cause {cause} in a batch of {}", self.causes);
        Err(refuse(super::refusal::NO_SUCH_CAUSE, Some(cause), message))
    }

    /// Counts a statement before it runs.
    pub(super) fn start_statement(&mut self) -> wasmtime::Result<()> {
        let most = self.grant.limits.statements_max;
        if self.statements >= most {
            return Err(
                OverLimit(format!("more than statements_max = {most} SQL statements in one call")).into()
            );
        }
        self.statements += 1;
        *self.progress.statement.lock() = Some(Instant::now());
        Ok(())
    }

    /// Records that Postgres has answered.
    pub(super) fn end_statement(&mut self) {
        *self.progress.statement.lock() = None;
        self.waited = true;
    }

    /// Records that a statement has failed. Only the first error says why: it has aborted the transaction.
    pub(super) fn fail_statement(&mut self, failure: SqlFailure) {
        self.end_statement();
        self.sql_error.get_or_insert(failure);
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

/// Bounds the memory of an instance. A guest that asks for more is stopped with a message: its own allocator
/// would abort without one.
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
