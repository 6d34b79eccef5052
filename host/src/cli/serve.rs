//! Shared by commands that keep running: the runtime, and how a signal ends them.

use std::{future::Future, time::Duration};

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::runtime::Host;

/// How long to wait for blocking work that is left when a command ends.
const LEFT_OVER_WITHIN: Duration = Duration::from_secs(1);

/// Runs a command on a runtime of its own; `workers` defaults to one per core.
pub(super) fn block_on<T>(
    workers: Option<usize>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers.max(1));
    }
    let runtime = builder.enable_all().thread_name("saga-host").build().context("starting the runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LEFT_OVER_WITHIN);
    outcome
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("listening for signals");
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The result of `work`; none when a signal comes first.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.next() => None,
        }
    }

    /// The result of `work`, unless a signal comes first.
    ///
    /// # Errors
    /// A signal came first.
    pub(super) async fn or_stop<T>(
        &mut self,
        work: impl Future<Output = T>,
        doing: &str,
    ) -> anyhow::Result<T> {
        self.unless_stopped(work).await.with_context(|| format!("stopped while {doing}"))
    }

    /// Serves until the first signal, then finishes the units that run; a second signal ends at once.
    ///
    /// # Errors
    /// A part of the host has ended that cannot be started again.
    pub(super) async fn serve(&mut self, host: Host) -> anyhow::Result<()> {
        let failed = tokio::select! {
            () = self.next() => false,
            () = host.failed() => true,
        };
        tracing::info!("stopping: finishing the units that run; a second signal ends at once");
        self.or_stop(
            host.stop(),
            "finishing the units that run; the next start repeats those that were not committed",
        )
        .await?;
        if failed {
            bail!("a part of the host has ended that cannot be started again, see the log; start it again");
        }
        Ok(())
    }
}
