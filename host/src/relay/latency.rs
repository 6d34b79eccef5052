//! How long units take in the relay: from the commit to the sender, and from there to the acknowledgement by
//! Kafka.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::unit_histogram;

/// Units whose commit time is remembered. While Kafka is unreachable many more may be waiting: they are not
/// measured.
const MEASURED_UNITS_MAX: usize = 2_000;

/// Latency of the units that this host both committed and published.
#[derive(Debug)]
pub struct PublishLatency {
    /// By outbox number.
    committed: Mutex<BTreeMap<i64, CommittedUnit>>,
    /// From the commit to Kafka's acknowledgement, in seconds.
    pub(crate) durations: Histogram,
    commit_to_send_ns: AtomicU64,
    send_to_acknowledge_ns: AtomicU64,
    acknowledged_units: AtomicU64,
}

/// The commit of a unit that Kafka has not acknowledged yet.
#[derive(Debug)]
struct CommittedUnit {
    at: Instant,
    is_sent: bool,
}

impl Default for PublishLatency {
    fn default() -> Self {
        Self {
            committed: Mutex::default(),
            durations: unit_histogram(),
            commit_to_send_ns: AtomicU64::default(),
            send_to_acknowledge_ns: AtomicU64::default(),
            acknowledged_units: AtomicU64::default(),
        }
    }
}

impl PublishLatency {
    pub(super) fn committed(&self, seq: i64) {
        let mut committed = self.committed.lock();
        if committed.len() < MEASURED_UNITS_MAX {
            committed.insert(seq, CommittedUnit { at: Instant::now(), is_sent: false });
        }
    }

    pub(super) fn sent(&self, seq: i64) {
        if let Some(unit) = self.committed.lock().get_mut(&seq)
            && !std::mem::replace(&mut unit.is_sent, true)
        {
            add(&self.commit_to_send_ns, unit.at.elapsed());
        }
    }

    /// Kafka has acknowledged `units`; `total` is the sum of their times since they were sent.
    pub(super) fn acknowledged(&self, units: &[i64], total: Duration) {
        self.acknowledged_units.fetch_add(units.len() as u64, Ordering::Relaxed);
        add(&self.send_to_acknowledge_ns, total);
        let mut committed = self.committed.lock();
        for unit in units.iter().filter_map(|seq| committed.remove(seq)) {
            self.durations.observe(unit.at.elapsed().as_secs_f64());
        }
    }

    /// Forgets the commit times: another host publishes from now on.
    pub(super) fn stop_leading(&self) {
        self.committed.lock().clear();
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
    use super::{MEASURED_UNITS_MAX, PublishLatency};

    #[test]
    fn commit_times_are_bounded_and_counted_once() {
        let latency = PublishLatency::default();
        (0..).take(MEASURED_UNITS_MAX + 9).for_each(|seq| latency.committed(seq));
        assert_eq!(latency.committed.lock().len(), MEASURED_UNITS_MAX);
        latency.sent(7);
        assert!(latency.committed.lock()[&7].is_sent);
        let once = latency.stages()[0].1;
        latency.sent(7);
        assert_eq!(latency.stages()[0].1, once);
        latency.acknowledged(&[7, 7], once);
        assert_eq!(latency.committed.lock().len(), MEASURED_UNITS_MAX - 1);
    }
}
