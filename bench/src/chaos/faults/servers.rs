//! Faults of Postgres, Kafka, and their disk.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{DOWN_MS_MAX, signal, sleep};
use crate::chaos::system::System;
use crate::sample::Sample;
use saga_devstack::Server;
use saga_testkit::quiet::eventually;

const DOWN_MS_SPREAD: usize = 3_000;
const FROZEN_MS_MIN: usize = 1_000;
const FROZEN_MS_SPREAD: usize = 7_000;
const FULL_MS_MIN: usize = 3_000;
const FULL_MS_SPREAD: usize = 4_000;
const SESSION_WITHIN: Duration = Duration::from_secs(20);
/// One session of a lane: the account of a plugin.
const SESSION: &str = r"SELECT pid::bigint FROM pg_stat_activity
    WHERE usename LIKE 'plugin\_%' ORDER BY pid LIMIT 1";

pub(super) async fn postgres_crash(system: &System) -> Result<String> {
    let database = system.services.databases()[0].to_owned();
    // After an earlier crash the lanes may still be connecting.
    let session =
        eventually(SESSION_WITHIN, async || system.number(&database, SESSION.to_owned()).await).await?;
    signal(i32::try_from(session)?, Signal::KILL)?;
    Ok("Postgres: a session killed, recovery from the log".to_owned())
}

pub(super) async fn postgres_restart(system: &mut System, sample: &mut Sample) -> Result<String> {
    let (stop, how) = if sample.below(2) == 0 { (Signal::INT, "fast") } else { (Signal::QUIT, "immediate") };
    system.linked.stack.end(Server::Postgres, stop).await?;
    let down = sleep(sample.below(DOWN_MS_SPREAD)).await;
    system.linked.stack.start_again(Server::Postgres).await?;
    Ok(format!("Postgres: {how} shutdown, started again after {down} ms"))
}

pub(super) async fn kafka_kill(system: &mut System, sample: &mut Sample) -> Result<String> {
    system.linked.stack.end(Server::Kafka, Signal::KILL).await?;
    let down = sleep(sample.below(DOWN_MS_SPREAD)).await;
    system.linked.stack.start_again(Server::Kafka).await?;
    Ok(format!("Kafka: SIGKILL, started again after {down} ms"))
}

pub(super) async fn kafka_freeze(system: &System, sample: &mut Sample) -> Result<String> {
    let broker = system.linked.broker()?;
    signal(broker, Signal::STOP)?;
    let frozen = sleep(FROZEN_MS_MIN + sample.below(FROZEN_MS_SPREAD)).await;
    signal(broker, Signal::CONT)?;
    Ok(format!("Kafka: SIGSTOP, SIGCONT after {frozen} ms"))
}

/// What the host had sent and Kafka had not acknowledged is lost with both.
pub(super) async fn freeze_kill(system: &mut System, host: usize, sample: &mut Sample) -> Result<String> {
    let broker = system.linked.broker()?;
    signal(broker, Signal::STOP)?;
    let frozen = sleep(FROZEN_MS_MIN + sample.below(FROZEN_MS_MIN)).await;
    let killed = system.kill(host).await;
    signal(broker, Signal::CONT)?;
    killed?;
    sleep(sample.below(DOWN_MS_MAX)).await;
    system.start(host, &[]).await?;
    Ok(format!("Kafka: SIGSTOP, SIGCONT after {frozen} ms, and host {}: SIGKILL before that", host + 1))
}

/// Either server may end on a full disk, and does not start while it is full.
pub(super) async fn disk_full(system: &mut System, sample: &mut Sample) -> Result<String> {
    let disk = system.linked.disk.as_ref().context("no small disk is mounted")?;
    disk.fill()?;
    let full = sleep(FULL_MS_MIN + sample.below(FULL_MS_SPREAD)).await;
    disk.free()?;
    let mut ended = Vec::new();
    for server in [Server::Postgres, Server::Kafka] {
        if system.linked.stack.has_ended(server) {
            system.linked.stack.start_again(server).await?;
            ended.push(format!("{server:?}"));
        }
    }
    let ended = if ended.is_empty() { "no server".to_owned() } else { ended.join(" and ") };
    Ok(format!("disk full for {full} ms; {ended} ended and was started again"))
}
