//! The kinds of faults, and which of them a system and a machine can have.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::description::System;
use super::disk::Disk;
use saga_testkit::wrong_clock;

/// What can be done to a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A host is killed by SIGKILL and started again
    Kill,
    /// A host ends at SIGTERM and is started again
    Term,
    /// A host is stopped by SIGSTOP until others have taken its partitions, then continued
    Stop,
    /// A further host joins, and is killed or ends a few seconds later
    Join,
    /// A host runs for a few seconds with a clock that is 50 ms late, 50 ms early or an hour early
    Skew,
    /// A plugin is swapped to its other version
    Swap,
    /// A host is killed by SIGKILL in the middle of a swap, and started again
    SwapKill,
    /// A session of Postgres is killed by SIGKILL: the server drops all others and recovers from its log
    PostgresCrash,
    /// Postgres is stopped, orderly or not, and started again
    PostgresRestart,
    /// The network between Postgres and one host or all is slow, then cut
    PostgresCut,
    /// The network between Postgres and the hosts is slow
    PostgresSlow,
    /// The Kafka broker is killed by SIGKILL and started again
    KafkaKill,
    /// The Kafka broker is stopped by SIGSTOP, then continued
    KafkaFreeze,
    /// A host is killed by SIGKILL while the Kafka broker is stopped
    FreezeKill,
    /// The network between Kafka and all hosts is cut
    KafkaCut,
    /// The network between Kafka and the host that leads most relays is cut
    LeaderCut,
    /// A topic gets further partitions
    Partitions,
    /// A topic is deleted and created again while nothing flows
    TopicAnew,
    /// The disk of Postgres and Kafka is full for a while
    DiskFull,
    /// Deliveries of one key fail for a while, are parked, and are redriven
    Redrive,
}

impl Fault {
    /// All of them.
    pub fn all() -> Vec<Self> {
        <Self as clap::ValueEnum>::value_variants().to_vec()
    }

    /// Whether it swaps plugins.
    pub(super) fn swaps(self) -> bool {
        matches!(self, Self::Swap | Self::SwapKill)
    }

    /// Fails with the reason when this system or machine cannot have it.
    pub(super) fn possible(self, system: &System) -> Result<()> {
        let needs = |has: bool, what: &str| {
            ensure!(has, "the system's file has no {what}");
            Ok(())
        };
        match self {
            Self::Swap | Self::SwapKill => needs(!system.swapped.is_empty(), "`swapped`"),
            Self::Partitions => needs(!system.topics.grow.is_empty(), "`topics.grow`"),
            Self::TopicAnew => needs(!system.topics.anew.is_empty(), "`topics.anew`"),
            Self::Redrive => needs(system.redrive.is_some(), "`redrive`"),
            Self::Skew => wrong_clock::possible(),
            Self::DiskFull => Disk::possible(),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::{Fault, System};

    #[test]
    fn a_fault_is_read_by_the_name_it_is_written_with() {
        for fault in Fault::all() {
            assert_eq!(Fault::from_str(&fault.to_string(), false), Ok(fault));
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.to_string());
        }
    }

    #[test]
    fn a_fault_that_a_system_cannot_have_names_what_is_missing() {
        let mut system = System::read("order").unwrap();
        Fault::Redrive.possible(&system).unwrap();
        system.redrive = None;
        let error = Fault::Redrive.possible(&system).unwrap_err().to_string();
        assert!(error.contains("`redrive`"), "{error}");
    }
}
