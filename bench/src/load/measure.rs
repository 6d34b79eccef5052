//! What the measurement takes from `/proc`: CPU by process between two moments, and memory at the end.

use std::time::Instant;

use serde::Serialize;

use crate::process::{Processes, busy_ticks, peak_bytes, proportional_bytes, ticks_per_second};
use crate::target::Pids;

/// The processes whose CPU is told apart.
pub(super) struct Watched {
    pids: Pids,
}

/// One moment's CPU counters, in ticks.
pub(super) struct Moment {
    at: Instant,
    host: Option<u64>,
    kafka: Option<u64>,
    postgres: Option<u64>,
    bench: u64,
    busy: Option<u64>,
}

/// CPU seconds by process; `None` where the process is not known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cpu {
    /// The host with its children, without Kafka and Postgres.
    pub(super) host: Option<f64>,
    /// The broker.
    pub(super) kafka: Option<f64>,
    /// The postmaster and all its children, also those that have ended.
    pub(super) postgres: Option<f64>,
    /// This program.
    pub(super) load_generator: f64,
    /// Everything else that ran on the machine, kernel work in interrupts included.
    pub(super) other: Option<f64>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Memory {
    /// Peak of the host.
    pub(super) host_peak: Option<u64>,
    /// Peak of the broker.
    pub(super) kafka_peak: Option<u64>,
    /// Postgres with all its children at the end of the level, shared pages counted once.
    pub(super) postgres_now: Option<u64>,
    /// Peak of this program.
    pub(super) load_generator_peak: Option<u64>,
}

impl Watched {
    pub(super) fn of(pids: &Pids) -> Self {
        Self { pids: *pids }
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
        let ticks = |root: Option<u32>, except: &[u32]| root.map(|root| processes.ticks(&processes.tree(root, except)));
        Self {
            at: Instant::now(),
            host: ticks(pids.host, &apart),
            kafka: ticks(pids.kafka, &[]),
            postgres: ticks(pids.postgres, &[]),
            bench: processes.ticks(&[own].into()),
            busy: busy_ticks(),
        }
    }

    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        self.at.duration_since(before.at).as_secs_f64()
    }

    pub(super) fn cpu_since(&self, before: &Self) -> Cpu {
        let seconds =
            |after: Option<u64>, before: Option<u64>| Some(after?.saturating_sub(before?) as f64 / ticks_per_second());
        let host = seconds(self.host, before.host);
        let kafka = seconds(self.kafka, before.kafka);
        let postgres = seconds(self.postgres, before.postgres);
        let load_generator = self.bench.saturating_sub(before.bench) as f64 / ticks_per_second();
        let known = [host, kafka, postgres, Some(load_generator)].into_iter().flatten().sum::<f64>();
        let other = seconds(self.busy, before.busy).map(|busy| (busy - known).max(0.0));
        Cpu { host, kafka, postgres, load_generator, other }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Moment;

    #[test]
    fn what_no_known_process_used_is_other() {
        let at = Instant::now();
        let before = Moment { at, host: Some(100), kafka: Some(0), postgres: None, bench: 5, busy: Some(1000) };
        let after = Moment {
            at: at + Duration::from_secs(2),
            host: Some(200),
            kafka: Some(50),
            postgres: None,
            bench: 15,
            busy: Some(1300),
        };
        let cpu = after.cpu_since(&before);
        let ticks = crate::process::ticks_per_second();
        assert_eq!((cpu.host, cpu.kafka, cpu.postgres), (Some(100.0 / ticks), Some(50.0 / ticks), None));
        assert!((cpu.other.unwrap() - 140.0 / ticks).abs() < 1e-9);
        assert!((after.seconds_since(&before) - 2.0).abs() < 1e-9);
    }
}
