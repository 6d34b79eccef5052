//! How long units wait in the relay, added up: from their commit to the producer, and from there until Kafka
//! has acknowledged them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Units whose commit is noted, at the most; when Kafka is away there may be many more.
const NOTED_MAX: usize = 2_000;

/// The waits of one relay, of units that this host committed and published.
#[derive(Debug, Default)]
pub struct Waits {
    committed: Mutex<BTreeMap<i64, Instant>>,
    hand_over: AtomicU64,
    acknowledge: AtomicU64,
    units: AtomicU64,
}

impl Waits {
    pub(super) fn committed(&self, seq: i64) {
        let mut committed = self.committed.lock();
        if committed.len() < NOTED_MAX {
            committed.insert(seq, Instant::now());
        }
    }

    pub(super) fn handed_over(&self, seq: i64) {
        if let Some(since) = self.committed.lock().remove(&seq) {
            add(&self.hand_over, since.elapsed());
        }
    }

    /// So many units, after so long in all.
    pub(super) fn acknowledged(&self, units: usize, took: Duration) {
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        add(&self.acknowledge, took);
    }

    /// Another host publishes what is committed from now on.
    pub(super) fn clear(&self) {
        self.committed.lock().clear();
    }

    /// Units that Kafka has acknowledged.
    pub(crate) fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Each with its name in the metrics.
    pub(crate) fn named(&self) -> [(&'static str, Duration); 2] {
        [("hand-over", &self.hand_over), ("acknowledge", &self.acknowledge)]
            .map(|(name, nanos)| (name, Duration::from_nanos(nanos.load(Ordering::Relaxed))))
    }
}

fn add(total: &AtomicU64, wait: Duration) {
    total.fetch_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::{NOTED_MAX, Waits};

    #[test]
    fn what_is_noted_is_bounded_and_taken_once() {
        let waits = Waits::default();
        (0..).take(NOTED_MAX + 9).for_each(|seq| waits.committed(seq));
        assert_eq!(waits.committed.lock().len(), NOTED_MAX);
        waits.handed_over(7);
        assert!(!waits.committed.lock().contains_key(&7));
        let once = waits.named()[0].1;
        waits.handed_over(7);
        assert_eq!(waits.named()[0].1, once);
    }
}
