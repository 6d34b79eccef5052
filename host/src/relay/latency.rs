//! How long units take in the relay, added up by stage: from the commit to the sender, and from there to
//! Kafka's acknowledgement.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Units whose commit time is remembered. While Kafka is unreachable many more may be waiting: they are not
/// measured.
const MEASURED_UNITS_MAX: usize = 2_000;

/// Latency of the units that this host both committed and published.
#[derive(Debug, Default)]
pub struct PublishLatency {
    committed_at: Mutex<BTreeMap<i64, Instant>>,
    commit_to_send_ns: AtomicU64,
    send_to_acknowledge_ns: AtomicU64,
    acknowledged_units: AtomicU64,
}

impl PublishLatency {
    pub(super) fn committed(&self, seq: i64) {
        let mut committed_at = self.committed_at.lock();
        if committed_at.len() < MEASURED_UNITS_MAX {
            committed_at.insert(seq, Instant::now());
        }
    }

    pub(super) fn sent(&self, seq: i64) {
        if let Some(since) = self.committed_at.lock().remove(&seq) {
            add(&self.commit_to_send_ns, since.elapsed());
        }
    }

    /// `total` is the sum over all `units`.
    pub(super) fn acknowledged(&self, units: usize, total: Duration) {
        self.acknowledged_units.fetch_add(units as u64, Ordering::Relaxed);
        add(&self.send_to_acknowledge_ns, total);
    }

    /// Forgets the commit times: another host publishes from now on.
    pub(super) fn stop_leading(&self) {
        self.committed_at.lock().clear();
    }

    pub(crate) fn acknowledged_units(&self) -> u64 {
        self.acknowledged_units.load(Ordering::Relaxed)
    }

    /// The total time of each stage, with the name that it has in the metrics.
    pub(crate) fn stages(&self) -> [(&'static str, Duration); 2] {
        [("hand-over", &self.commit_to_send_ns), ("acknowledge", &self.send_to_acknowledge_ns)]
            .map(|(name, nanos)| (name, Duration::from_nanos(nanos.load(Ordering::Relaxed))))
    }
}

fn add(total_ns: &AtomicU64, time: Duration) {
    total_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MEASURED_UNITS_MAX, PublishLatency};

    #[test]
    fn commit_times_are_bounded_and_counted_once() {
        let latency = PublishLatency::default();
        (0..).take(MEASURED_UNITS_MAX + 9).for_each(|seq| latency.committed(seq));
        assert_eq!(latency.committed_at.lock().len(), MEASURED_UNITS_MAX);
        std::thread::sleep(Duration::from_millis(1));
        latency.sent(7);
        let [(_, once), _] = latency.stages();
        assert!(once >= Duration::from_millis(1));
        latency.sent(7);
        assert_eq!(latency.stages()[0].1, once);
    }
}
