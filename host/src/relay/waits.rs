//! How long units wait in the relay: from their commit to the producer, and from there until Kafka has
//! acknowledged them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::unit_histogram;

/// Units whose commit time is noted, at most: while Kafka is unreachable there may be many more.
const NOTED_MAX: usize = 2_000;

/// The waits of one relay, of units that this host committed and published.
#[derive(Debug)]
pub struct Waits {
    /// By sequence number, in the order of commits.
    committed: Mutex<BTreeMap<i64, Noted>>,
    /// From the commit to Kafka's acknowledgement.
    pub(crate) durations: Histogram,
    hand_over: AtomicU64,
    acknowledge: AtomicU64,
    units: AtomicU64,
}

/// The commit of a unit that Kafka has not acknowledged.
#[derive(Debug)]
struct Noted {
    at: Instant,
    is_handed_over: bool,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            committed: Mutex::default(),
            durations: unit_histogram(),
            hand_over: AtomicU64::default(),
            acknowledge: AtomicU64::default(),
            units: AtomicU64::default(),
        }
    }
}

impl Waits {
    pub(super) fn committed(&self, seq: i64) {
        let mut committed = self.committed.lock();
        if committed.len() < NOTED_MAX {
            committed.insert(seq, Noted { at: Instant::now(), is_handed_over: false });
        }
    }

    pub(super) fn handed_over(&self, seq: i64) {
        if let Some(noted) = self.committed.lock().get_mut(&seq)
            && !std::mem::replace(&mut noted.is_handed_over, true)
        {
            add(&self.hand_over, noted.at.elapsed());
        }
    }

    /// Kafka has acknowledged these units, which took so long in all since they were handed over.
    pub(super) fn acknowledged(&self, units: &[i64], took: Duration) {
        self.units.fetch_add(units.len() as u64, Ordering::Relaxed);
        add(&self.acknowledge, took);
        let mut committed = self.committed.lock();
        for noted in units.iter().filter_map(|seq| committed.remove(seq)) {
            self.durations.observe(noted.at.elapsed().as_secs_f64());
        }
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
    fn what_is_noted_is_bounded_and_counted_once() {
        let waits = Waits::default();
        (0..).take(NOTED_MAX + 9).for_each(|seq| waits.committed(seq));
        assert_eq!(waits.committed.lock().len(), NOTED_MAX);
        waits.handed_over(7);
        assert!(!waits.committed.lock().contains_key(&7));
        let once = waits.named()[0].1;
        waits.handed_over(7);
        assert_eq!(waits.named()[0].1, once);
        waits.acknowledged(&[7, 7], once);
        assert_eq!(waits.committed.lock().len(), NOTED_MAX - 1);
    }
}
