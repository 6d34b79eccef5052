//! Faults of hosts: they end, stop, join and leave, or have a wrong clock.

use anyhow::Result;

use super::{DOWN_MS_MAX, SLOW_BEFORE, SLOW_BEFORE_MS, sleep};
use crate::chaos::system::System;
use crate::sample::Sample;
use saga_testkit::{proxy::Network, wrong_clock};

/// Longer than the consumers' session time-out of 6 s. Some stops are longer than a lane's lease of 10 s,
/// too.
const STOPPED_MS_MIN: usize = 7_000;
const STOPPED_MS_SPREAD: usize = 6_000;
/// How long a further host stays.
const JOINED_MS_MIN: usize = 3_000;
const JOINED_MS_SPREAD: usize = 5_000;
/// How long a host's clock is wrong.
const SKEWED_MS_MIN: usize = 4_000;
const SKEWED_MS_SPREAD: usize = 4_000;
/// Milliseconds by which a clock is wrong.
const SKEWS_MS: [i64; 3] = [-50, 50, 3_600_000];

pub(super) async fn kill(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    system.kill(host).await?;
    let down = sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(host, &[]).await?;
    Ok(format!("host {}: SIGKILL, started again after {down} ms", host + 1))
}

pub(super) async fn term(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    system.term(host).await?;
    let down = sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(host, &[]).await?;
    Ok(format!("host {}: SIGTERM, started again after {down} ms", host + 1))
}

pub(super) async fn stop(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    let process = system.process(host)?;
    // On a slow network, units are under way when it stops.
    system.linked.postgres(&[host], Network::Slow(SLOW_BEFORE));
    sleep(SLOW_BEFORE_MS).await;
    process.freeze();
    system.linked.postgres(&[host], Network::Open);
    let stopped = sleep(STOPPED_MS_MIN + sample.below(STOPPED_MS_SPREAD)).await;
    process.thaw();
    Ok(format!("host {}: SIGSTOP, SIGCONT after {stopped} ms", host + 1))
}

pub(super) async fn join(system: &mut System, sample: &mut Sample) -> Result<String> {
    let host = system.spare();
    system.start(host, &[]).await?;
    let stayed = sleep(JOINED_MS_MIN + sample.below(JOINED_MS_SPREAD)).await;
    let how = if sample.below(2) == 0 {
        system.kill(host).await?;
        "SIGKILL"
    } else {
        system.term(host).await?;
        "SIGTERM"
    };
    Ok(format!("host {} joined, {how} {stayed} ms after it was ready", host + 1))
}

/// The clock is right again when the host is started once more, so it jumps in both directions.
pub(super) async fn skew(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    let library = wrong_clock::build(system.folder())?;
    let ms = SKEWS_MS[sample.below(SKEWS_MS.len())];
    system.term(host).await?;
    system.start(host, &wrong_clock::environment(&library, ms)).await?;
    let skewed = sleep(SKEWED_MS_MIN + sample.below(SKEWED_MS_SPREAD)).await;
    system.term(host).await?;
    system.start(host, &[]).await?;
    Ok(format!("host {}: its clock {ms:+} ms for {skewed} ms, between two restarts", host + 1))
}
