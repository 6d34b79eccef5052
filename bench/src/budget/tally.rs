//! Samples by stop.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::profile::Sample;
use super::rules;
use saga_testkit::process::Processes;
use saga_testkit::target::Target;

/// Who a process belongs to.
#[derive(Debug, Default)]
pub(super) struct Owners {
    host: HashSet<u32>,
    kafka: HashSet<u32>,
    /// With their titles.
    postgres: HashMap<u32, String>,
}

/// One of the three that a saga is paid by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Host,
    Kafka,
    Postgres,
}

/// Samples of the three, by stop.
#[derive(Debug)]
pub(super) struct Tally {
    owners: Owners,
    samples: BTreeMap<(Owner, &'static str), u64>,
}

impl Owners {
    /// As the processes are now: Postgres' backends live as long as the connections.
    pub(super) fn now(target: &Target) -> Self {
        let pids = &target.pids;
        let processes = Processes::now();
        let tree = |root: Option<u32>, except: &[u32]| {
            root.map(|root| processes.tree(root, except)).unwrap_or_default()
        };
        let others: Vec<u32> = [pids.kafka, pids.postgres].into_iter().flatten().collect();
        let postgres = tree(pids.postgres, &[]).into_iter();
        let more = target.more.iter().flat_map(|host| tree(host.pid, &[]));
        Self {
            host: tree(pids.host, &others).into_iter().chain(more).collect(),
            kafka: tree(pids.kafka, &[]),
            postgres: postgres.map(|pid| (pid, title(pid))).collect(),
        }
    }
}

fn title(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.replace('\0', " ")
}

impl Tally {
    pub(super) fn new(owners: Owners) -> Self {
        Self { owners, samples: BTreeMap::new() }
    }

    /// Counts it, when it is of one of the three.
    pub(super) fn add(&mut self, sample: &Sample) {
        let Some(pid) = sample.pid else { return };
        let stop = if self.owners.host.contains(&pid) {
            (Owner::Host, rules::of_host(&sample.thread, &sample.frames))
        } else if self.owners.kafka.contains(&pid) {
            (Owner::Kafka, rules::of_broker(&sample.thread))
        } else if let Some(title) = self.owners.postgres.get(&pid) {
            (Owner::Postgres, rules::of_postgres(title))
        } else {
            return;
        };
        *self.samples.entry(stop).or_default() += 1;
    }

    /// Of each, the stop with the most samples first.
    pub(super) fn stops(&self) -> Vec<(Owner, &'static str, u64)> {
        let mut stops: Vec<_> =
            self.samples.iter().map(|((owner, stop), samples)| (*owner, *stop, *samples)).collect();
        stops.sort_by_key(|(owner, _, samples)| (*owner, std::cmp::Reverse(*samples)));
        stops
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, Owners, Sample, Tally};

    #[test]
    fn only_the_three_are_counted() {
        let owners = Owners {
            host: [1].into(),
            kafka: [2].into(),
            postgres: [(3, "postgres: walwriter ".to_owned())].into(),
        };
        let mut tally = Tally::new(owners);
        for (pid, thread) in
            [(1, "rdk:main"), (1, "rdk:main"), (1, "x"), (2, "C2 CompilerThre"), (3, "postgres"), (4, "perf")]
        {
            tally.add(&Sample {
                thread: thread.to_owned(),
                pid: Some(pid),
                frames: vec!["saga_host::unit::f".to_owned()],
            });
        }
        assert_eq!(
            tally.stops(),
            [
                (Owner::Host, "librdkafka", 2),
                (Owner::Host, "lanes and units", 1),
                (Owner::Kafka, "JIT compiler", 1),
                (Owner::Postgres, "WAL writer", 1),
            ]
        );
    }
}
