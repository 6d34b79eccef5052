//! What the host API shows of a consumer.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use crate::claims::partitions::TopicPartition;

/// What the host API shows of a consumer.
#[derive(Debug, Default)]
pub struct ConsumerHealth {
    pub(super) assigned: AtomicBool,
    pub(super) stopped: Mutex<HashMap<TopicPartition, String>>,
    pub(super) trouble: Mutex<Option<String>>,
}

impl ConsumerHealth {
    /// Whether Kafka has assigned partitions, or assigned none to this host.
    #[must_use]
    pub fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Acquire)
    }

    /// Partitions that are not read, and why. A person must act.
    #[must_use]
    pub fn stopped(&self) -> Vec<String> {
        self.stopped.lock().values().cloned().collect()
    }

    /// Why Kafka is unreachable; none when it is reachable.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}
