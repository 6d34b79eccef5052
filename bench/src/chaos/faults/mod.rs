//! The faults. Each function injects one, and returns when it is over, with a description of what was done.

mod hosts;
mod network;
mod redrive;
mod servers;
mod swaps;
mod topics;

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::Fault;
use super::calls::Calls;
use super::check::Archive;
use super::schedule::Planned;
use super::system::System;
use crate::sample::Sample;
use saga_testkit::report::Report;

/// How long a host is down before it is started again, at most.
const DOWN_MS_MAX: usize = 800;
/// Before some faults the network to Postgres is slow, so that units are under way when they come.
const SLOW_BEFORE: Duration = Duration::from_millis(20);
const SLOW_BEFORE_MS: usize = 1_000;

/// Injects a fault and waits until every host is ready again.
///
/// # Errors
/// It could not be injected, or the system did not heal in time. A promise that was broken meanwhile is a failed
/// check in `report`.
pub(super) async fn inject(
    system: &mut System,
    calls: &Calls,
    archive: &mut Archive,
    report: &mut Report,
    planned: &Planned,
) -> Result<String> {
    let (host, mut sample) = (planned.host, Sample::new(planned.seed));
    let sample = &mut sample;
    let done = match planned.fault {
        Fault::Kill => hosts::kill(system, host, sample).await,
        Fault::Term => hosts::term(system, host, sample).await,
        Fault::Stop => hosts::stop(system, host, sample).await,
        Fault::Join => hosts::join(system, sample).await,
        Fault::Skew => hosts::skew(system, host, sample).await,
        Fault::Swap => swaps::swap(system, host, sample).await,
        Fault::SwapKill => swaps::swap_kill(system, host, sample).await,
        Fault::PostgresCrash => servers::postgres_crash(system).await,
        Fault::PostgresRestart => servers::postgres_restart(system, sample).await,
        Fault::PostgresCut => network::postgres_cut(system, host, sample).await,
        Fault::PostgresSlow => network::postgres_slow(system, sample).await,
        Fault::KafkaKill => servers::kafka_kill(system, sample).await,
        Fault::KafkaFreeze => servers::kafka_freeze(system, sample).await,
        Fault::FreezeKill => servers::freeze_kill(system, host, sample).await,
        Fault::KafkaCut => network::kafka_cut(system, sample).await,
        Fault::LeaderCut => network::leader_cut(system, sample).await,
        Fault::Partitions => topics::partitions(system, sample).await,
        Fault::TopicAnew => topics::anew(system, calls, archive, sample).await,
        Fault::DiskFull => servers::disk_full(system, sample).await,
        Fault::Redrive => redrive::redrive(system, calls, report, sample).await,
    };
    let done = done.with_context(|| format!("{} (host {})", planned.fault, host + 1))?;
    system.all_ready().await.with_context(|| format!("after {}", planned.fault))?;
    Ok(done)
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("a process id of 0")?;
    kill_process(pid, signal).with_context(|| format!("signal {signal:?} to process {pid:?}"))
}

async fn sleep(ms: usize) -> usize {
    tokio::time::sleep(Duration::from_millis(ms as u64)).await;
    ms
}
