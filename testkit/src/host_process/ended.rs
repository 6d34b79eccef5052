//! How a host process ends: unexpectedly, stopped, or killed.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{HostProcess, POLL};

const STOP_WITHIN: Duration = Duration::from_secs(30);

impl HostProcess {
    /// Its process id; `None` once it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// As the system reports.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill saga-host")
    }

    /// Waits until the process ends without a signal from here.
    ///
    /// # Errors
    /// The process still runs after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let still = || format!("saga-host still runs after {} s:\n{}", limit.as_secs(), tail(&self.log));
        ended.with_context(still)?.context("wait for saga-host")
    }

    /// Waits until the process ends unexpectedly; returns the reason.
    ///
    /// # Errors
    /// The system cannot wait for the process.
    pub async fn ends(&mut self) -> Result<anyhow::Error> {
        let status = self.child.wait().await.context("wait for saga-host")?;
        Ok(anyhow!("saga-host ended ({status}):\n{}", tail(&self.log)))
    }

    /// Sends SIGSTOP: the process is suspended until [`HostProcess::thaw`]; its connections stay open.
    pub fn freeze(&self) {
        signal(self.child.id(), Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        signal(self.child.id(), Signal::CONT);
    }

    /// Sends SIGTERM, and waits for the end. After 30 s, kills the process, and the Kafka and the Postgres
    /// that it started.
    ///
    /// # Errors
    /// The process had to be killed, or its exit code is not 0.
    pub async fn stop(mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM);
        if let Ok(status) = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            return self.ended_well(status?);
        }
        self.child.kill().await?;
        if let Some(stack) = &self.stack {
            signal(stack.pids.kafka, Signal::KILL);
            signal(stack.pids.postgres, Signal::INT);
        }
        bail!("saga-host did not stop in {} s:\n{}", STOP_WITHIN.as_secs(), tail(&self.log))
    }

    /// Like [`HostProcess::stop`], but blocks the thread: for drop guards.
    ///
    /// # Errors
    /// As [`HostProcess::stop`].
    pub fn stop_blocking(&mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM);
        self.thaw();
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                return self.ended_well(status);
            }
            std::thread::sleep(POLL);
        }
        self.child.start_kill()?;
        bail!("saga-host did not stop in {} s:\n{}", STOP_WITHIN.as_secs(), tail(&self.log))
    }

    fn ended_well(&self, status: ExitStatus) -> Result<()> {
        ensure!(status.success(), "saga-host stopped with {status}:\n{}", tail(&self.log));
        Ok(())
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::TERM);
        self.thaw();
    }
}

fn signal(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The process may have ended already.
        let _ = kill_process(pid, signal);
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
