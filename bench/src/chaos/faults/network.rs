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

/// The steps of a cut, and how a report names them.
#[derive(Clone, Copy)]
struct Cut(&'static [Network], &'static str);

/// After silence, what was under way arrives late, or is lost when the connections are reset.
const CUTS: [Cut; 3] = [
    Cut(&[Network::Silent], "silent"),
    Cut(&[Network::Reset], "reset"),
    Cut(&[Network::Silent, Network::Reset], "silent, then reset,"),
];

impl Cut {
    /// Cuts a network for `ms` by `set`, and opens it again.
    async fn run(self, ms: usize, set: impl Fn(Network)) {
        for network in self.0 {
            set(*network);
            sleep(ms / self.0.len()).await;
        }
        set(Network::Open);
    }
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
    let (cut, (hosts, who)) = (CUTS[sample.below(CUTS.len())], some(system, host, sample));
    let ms = CUT_MS_MIN + sample.below(CUT_MS_SPREAD);
    system.linked.postgres(&hosts, Network::Slow(SLOW_BEFORE));
    sleep(SLOW_BEFORE_MS).await;
    cut.run(ms, |network| system.linked.postgres(&hosts, network)).await;
    Ok(format!("Postgres and {who}: network slow, then {} for {ms} ms", cut.1))
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
    let (cut, ms) = (CUTS[sample.below(CUTS.len())], CUT_MS_MIN + sample.below(CUT_MS_SPREAD));
    cut.run(ms, |network| system.linked.kafka(&hosts, network)).await;
    Ok(format!("Kafka and all hosts: network {} for {ms} ms", cut.1))
}

pub(super) async fn leader_cut(system: &System, sample: &mut Sample) -> Result<String> {
    let (host, cut) = (system.leader().await?, CUTS[sample.below(CUTS.len())]);
    let ms = LEADER_CUT_MS_MIN + sample.below(LEADER_CUT_MS_SPREAD);
    cut.run(ms, |network| system.linked.kafka(&[host], network)).await;
    Ok(format!("Kafka and host {}, which leads: network {} for {ms} ms", host + 1, cut.1))
}
