//! Runs work on a host, or only on its stack, with fresh data.

use anyhow::Result;

use super::{HostProcess, StartOptions, free_address};
use crate::target::Target;

/// Runs `work` on a `saga-host dev` with fresh data, then stops it, also when `work` failed.
///
/// # Errors
/// The host did not start, `work` failed, or the host did not stop with exit code 0.
pub async fn on_fresh_data<T>(
    options: &StartOptions,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    options.prepare()?;
    let (host, target) = HostProcess::dev(options).await?;
    host.stop_after(work(&target).await).await
}

/// The same with one or two hosts on one Kafka and Postgres.
///
/// # Errors
/// As [`on_fresh_data`], and [`HostProcess::second`].
pub async fn on_hosts<T>(
    options: &StartOptions,
    hosts: u32,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    on_fresh_data(options, async |target| {
        if hosts == 1 {
            return work(target).await;
        }
        let (second, target) = HostProcess::second(options, target).await?;
        second.stop_after(work(&target).await).await
    })
    .await
}

/// The same with a `saga-host stack`. The target has free addresses for a host.
///
/// # Errors
/// As [`on_fresh_data`].
pub async fn on_fresh_stack<T>(
    options: &StartOptions,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    options.prepare()?;
    let (stack, stacked) = HostProcess::stack(options).await?;
    let target = Target { http: Some(free_address()?), admin: Some(free_address()?), ..stacked };
    stack.stop_after(work(&target).await).await
}

impl HostProcess {
    async fn stop_after<T>(self, done: Result<T>) -> Result<T> {
        let stopped = self.stop().await;
        let done = done?;
        stopped?;
        Ok(done)
    }
}
