//! Faults of the network between hosts and servers.

use std::time::Duration;

use anyhow::Result;

use super::{SLOW_BEFORE, SLOW_BEFORE_MS, sleep};
use crate::chaos::system::System;
use crate::sample::Sample;
use saga_testkit::proxy::Network;

const CUT_MS_MIN: usize = 2_000;
const CUT_MS_SPREAD: usize = 8_000;
/// Long enough for a host to see that the leader makes no progress.
const LEADER_CUT_MS_MIN: usize = 15_000;
const LEADER_CUT_MS_SPREAD: usize = 5_000;
const SLOW_MS_MIN: usize = 5;
const SLOW_MS_SPREAD: usize = 35;
const SLOW_FOR_MS_MIN: usize = 4_000;
const SLOW_FOR_MS_SPREAD: usize = 4_000;

/// How a network is cut, and the word for it.
fn cut(sample: &mut Sample) -> (Network, &'static str) {
    if sample.below(2) == 0 { (Network::Silent, "silent") } else { (Network::Reset, "reset") }
}

/// The given host or all, and how a report names them.
fn some(system: &System, host: usize, sample: &mut Sample) -> (Vec<usize>, String) {
    if sample.below(2) == 0 {
        (vec![host], format!("host {}", host + 1))
    } else {
        ((0..system.hosts()).collect(), "all hosts".to_owned())
    }
}

pub(super) async fn postgres_cut(system: &System, host: usize, sample: &mut Sample) -> Result<String> {
    let ((network, how), (hosts, who)) = (cut(sample), some(system, host, sample));
    system.linked.postgres(&hosts, Network::Slow(SLOW_BEFORE));
    sleep(SLOW_BEFORE_MS).await;
    system.linked.postgres(&hosts, network);
    let cut_ms = sleep(CUT_MS_MIN + sample.below(CUT_MS_SPREAD)).await;
    system.linked.postgres(&hosts, Network::Open);
    Ok(format!("Postgres and {who}: network slow, then {how} for {cut_ms} ms"))
}

pub(super) async fn postgres_slow(system: &System, sample: &mut Sample) -> Result<String> {
    let hosts: Vec<usize> = (0..system.hosts()).collect();
    let delay = SLOW_MS_MIN + sample.below(SLOW_MS_SPREAD);
    system.linked.postgres(&hosts, Network::Slow(Duration::from_millis(delay as u64)));
    let slow = sleep(SLOW_FOR_MS_MIN + sample.below(SLOW_FOR_MS_SPREAD)).await;
    system.linked.postgres(&hosts, Network::Open);
    Ok(format!("Postgres and all hosts: {delay} ms in each direction, for {slow} ms"))
}

pub(super) async fn kafka_cut(system: &System, sample: &mut Sample) -> Result<String> {
    let hosts: Vec<usize> = (0..system.hosts()).collect();
    let (network, how) = cut(sample);
    system.linked.kafka(&hosts, network);
    let cut_ms = sleep(CUT_MS_MIN + sample.below(CUT_MS_SPREAD)).await;
    system.linked.kafka(&hosts, Network::Open);
    Ok(format!("Kafka and all hosts: network {how} for {cut_ms} ms"))
}

pub(super) async fn leader_cut(system: &System, sample: &mut Sample) -> Result<String> {
    let (host, (network, how)) = (system.leader().await?, cut(sample));
    system.linked.kafka(&[host], network);
    let cut_ms = sleep(LEADER_CUT_MS_MIN + sample.below(LEADER_CUT_MS_SPREAD)).await;
    system.linked.kafka(&[host], Network::Open);
    Ok(format!("Kafka and host {}, which leads: network {how} for {cut_ms} ms", host + 1))
}
