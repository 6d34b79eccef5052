//! Draws which fault is injected when. Pure: the same seed and options give the same schedule.

use std::time::Duration;

use super::Fault;
use crate::sample::Sample;

/// The load runs without a fault until then.
const FIRST_MS: usize = 10_000;
const GAP_MS_MIN: usize = 6_000;
const GAP_MS_SPREAD: usize = 5_000;
/// How long the load continues after the last planned fault.
const LAST_BEFORE_END_MS: usize = 5_000;
/// Separates this sequence from others with the same seed.
const SALT: u64 = 0x6661_756c_7473;

/// One fault of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// From the start of the load. A fault starts later when the previous one has not healed by then.
    pub(super) at: Duration,
    pub(super) fault: Fault,
    /// Number of the host that it hits, from 0.
    pub(super) host: usize,
    /// The seed for other choices of the fault.
    pub(super) seed: u64,
}

/// Draws a schedule. Each of `faults` occurs once before one occurs again.
pub(super) fn draw(seed: u64, faults: &[Fault], hosts: usize, seconds: u64) -> Vec<Planned> {
    let mut sample = Sample::new(seed ^ SALT);
    let end_ms = usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(1000);
    let (mut planned, mut deck, mut at_ms) = (Vec::new(), Vec::new(), FIRST_MS);
    while !faults.is_empty() && at_ms + LAST_BEFORE_END_MS <= end_ms {
        if deck.is_empty() {
            deck = faults.to_vec();
        }
        planned.push(Planned {
            at: Duration::from_millis(at_ms as u64),
            fault: deck.swap_remove(sample.below(deck.len())),
            host: sample.below(hosts),
            seed: sample.draw(),
        });
        at_ms += GAP_MS_MIN + sample.below(GAP_MS_SPREAD);
    }
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Fault, draw};

    #[test]
    fn the_same_seed_draws_the_same_schedule() {
        for (seed, faults, hosts, seconds) in
            [(1, &Fault::all()[..], 2, 120), (2, &[Fault::Kill][..], 1, 20), (3, &Fault::all()[..2], 8, 600)]
        {
            let planned = draw(seed, faults, hosts, seconds);
            assert_eq!(planned, draw(seed, faults, hosts, seconds));
            assert_ne!(planned, draw(seed + 1, faults, hosts, seconds));
        }
    }

    #[test]
    fn a_schedule_keeps_its_bounds() {
        // hosts, seconds, the fewest faults, the most
        for (hosts, seconds, fewest, most) in
            [(1, 14, 0, 0), (1, 15, 1, 1), (2, 60, 5, 8), (3, 120, 11, 18), (8, 3600, 320, 600)]
        {
            let planned = draw(9, &Fault::all(), hosts, seconds);
            assert!((fewest..=most).contains(&planned.len()), "{seconds} s: {}", planned.len());
            assert!(planned.iter().all(|one| one.host < hosts));
            assert!(planned.iter().all(|one| one.at.as_secs() + 5 <= seconds));
            assert!(planned.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
        assert!(draw(9, &[], 2, 120).is_empty());
    }

    #[test]
    fn every_fault_occurs_once_before_one_occurs_again() {
        let planned = draw(5, &Fault::all(), 2, 3600);
        for round in planned.chunks_exact(Fault::all().len()) {
            let faults: HashSet<_> = round.iter().map(|one| one.fault).collect();
            assert_eq!(faults.len(), Fault::all().len());
        }
        let hosts: HashSet<_> = planned.iter().map(|one| one.host).collect();
        assert_eq!(hosts.len(), 2);
    }
}
