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
    /// Whether Kafka has assigned partitions, or told that there are none left for this host.
    #[must_use]
    pub fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Acquire)
    }

    /// Partitions that are not read, and why: a person must look.
    #[must_use]
    pub fn stopped(&self) -> Vec<String> {
        self.stopped.lock().values().cloned().collect()
    }

    /// Why Kafka cannot be reached; none when it can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}
