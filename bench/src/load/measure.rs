//! Measurements from `/proc`: CPU by process between two moments, and memory at the end.

use std::time::Instant;

use serde::Serialize;

use saga_testkit::process::{
    self, MachineTicks, Processes, peak_bytes, proportional_bytes, ticks_per_second,
};
use saga_testkit::target::{Pids, Target};

/// The processes whose CPU is measured separately.
pub(super) struct Watched {
    pids: Pids,
    /// Process ids of further hosts.
    more: Vec<u32>,
}

/// CPU counters at one moment, in ticks.
pub(super) struct Moment {
    at: Instant,
    host: Option<u64>,
    kafka: Option<u64>,
    postgres: Option<u64>,
    bench: u64,
    machine: Option<MachineTicks>,
}

/// CPU seconds by process; `None` when the process is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cpu {
    /// The host with its children, without Kafka and Postgres; the sum of all hosts, when there are several.
    pub host: Option<f64>,
    /// The broker.
    pub kafka: Option<f64>,
    /// The postmaster and all its children, also those that have ended.
    pub postgres: Option<f64>,
    /// This program.
    pub load_generator: f64,
    /// Everything else that ran on the machine, kernel work in interrupts included.
    pub other: Option<f64>,
}

/// Resident memory in bytes. A peak is that of the level when the kernel allows a reset, otherwise that of
/// the process's whole life.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Peak of the host.
    pub host_peak: Option<u64>,
    /// Peak of the broker.
    pub kafka_peak: Option<u64>,
    /// Postgres with all its children when the load ends, shared pages counted once.
    pub postgres_now: Option<u64>,
    /// Peak of this program.
    pub load_generator_peak: Option<u64>,
}

impl Watched {
    pub(super) fn of(target: &Target) -> Self {
        Self { pids: target.pids, more: target.more.iter().filter_map(|host| host.pid).collect() }
    }

    /// Resets the peaks.
    pub(super) fn reset_peaks(&self) {
        let pids = [self.pids.host, self.pids.kafka, Some(std::process::id())];
        pids.into_iter().flatten().for_each(process::reset_peak);
    }

    pub(super) fn memory(&self) -> Memory {
        let postgres = |root| proportional_bytes(&Processes::now().tree(root, &[]));
        Memory {
            host_peak: self.pids.host.and_then(peak_bytes),
            kafka_peak: self.pids.kafka.and_then(peak_bytes),
            postgres_now: self.pids.postgres.and_then(postgres),
            load_generator_peak: peak_bytes(std::process::id()),
        }
    }
}

impl Moment {
    pub(super) fn now(watched: &Watched) -> Self {
        let processes = Processes::now();
        let pids = &watched.pids;
        let own = std::process::id();
        let apart: Vec<u32> = [pids.kafka, pids.postgres, Some(own)].into_iter().flatten().collect();
        let ticks = |root: Option<u32>, except: &[u32]| {
            root.map(|root| processes.ticks(&processes.tree(root, except)))
        };
        let more: u64 = watched.more.iter().filter_map(|host| ticks(Some(*host), &[])).sum();
        Self {
            at: Instant::now(),
            host: ticks(pids.host, &apart).map(|host| host + more),
            kafka: ticks(pids.kafka, &[]),
            postgres: ticks(pids.postgres, &[]),
            bench: processes.own_ticks(own),
            machine: process::machine_ticks(),
        }
    }

    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64()
    }

    pub(super) fn cpu_since(&self, before: &Self) -> Cpu {
        let seconds = |after: Option<u64>, before: Option<u64>| {
            Some(after?.saturating_sub(before?) as f64 / ticks_per_second())
        };
        let host = seconds(self.host, before.host);
        let kafka = seconds(self.kafka, before.kafka);
        let postgres = seconds(self.postgres, before.postgres);
        let load_generator = self.bench.saturating_sub(before.bench) as f64 / ticks_per_second();
        let known = [host, kafka, postgres, Some(load_generator)].into_iter().flatten().sum::<f64>();
        let busy = |moment: &Self| moment.machine.map(|machine| machine.busy);
        let other = seconds(busy(self), busy(before)).map(|busy| (busy - known).max(0.0));
        Cpu { host, kafka, postgres, load_generator, other }
    }

    /// CPU seconds that the hypervisor gave to other machines.
    pub(super) fn stolen_since(&self, before: &Self) -> Option<f64> {
        let stolen = self.machine?.stolen.saturating_sub(before.machine?.stolen);
        Some(stolen as f64 / ticks_per_second())
    }
}

impl Cpu {
    /// The figures divided by the number of sagas.
    pub(super) fn per(self, sagas: f64) -> Self {
        let each = |seconds: Option<f64>| seconds.map(|seconds| seconds / sagas);
        Self {
            host: each(self.host),
            kafka: each(self.kafka),
            postgres: each(self.postgres),
            load_generator: self.load_generator / sagas,
            other: each(self.other),
        }
    }

    /// Host, Kafka and Postgres together: what a saga costs.
    pub(crate) fn system(&self) -> Option<f64> {
        Some(self.host? + self.kafka? + self.postgres?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MachineTicks, Moment};

    #[test]
    fn cpu_of_unknown_processes_is_other() {
        let at = Instant::now();
        let before = Moment {
            at,
            host: Some(100),
            kafka: Some(0),
            postgres: None,
            bench: 5,
            machine: Some(MachineTicks { busy: 1000, stolen: 7 }),
        };
        let after = Moment {
            at: at + Duration::from_secs(2),
            host: Some(200),
            kafka: Some(50),
            postgres: None,
            bench: 15,
            machine: Some(MachineTicks { busy: 1300, stolen: 9 }),
        };
        let cpu = after.cpu_since(&before);
        let ticks = saga_testkit::process::ticks_per_second();
        assert_eq!((cpu.host, cpu.kafka, cpu.postgres), (Some(100.0 / ticks), Some(50.0 / ticks), None));
        assert!((cpu.other.unwrap() - 140.0 / ticks).abs() < 1e-9);
        assert!((after.stolen_since(&before).unwrap() - 2.0 / ticks).abs() < 1e-9);
        assert!((after.seconds_since(&before) - 2.0).abs() < 1e-9);
    }
}
