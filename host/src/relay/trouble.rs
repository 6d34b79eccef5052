//! What the relay waits for, as `readyz` and the metrics show it, and its log lines: one when a trouble begins
//! and one when it ends.

use std::time::Instant;

use parking_lot::Mutex;

use super::in_flight::Place;

/// Records that Kafka does not accept for now. The relay retries them by itself.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Topic and partition of the first of them.
    pub place: Place,
    /// What Kafka or its client reports.
    pub reason: String,
    /// Since when.
    pub since: Instant,
    /// Whether the Kafka client has logged it.
    pub logged: bool,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { place: (topic, partition), reason, since, .. } = self;
        let seconds = since.elapsed().as_secs();
        write!(f, "records of topic {topic}, partition {partition} wait for {seconds} s: {reason}")
    }
}

/// The troubles of one relay.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<Vec<Trouble>>);

impl Troubles {
    pub(super) fn all(&self) -> Vec<Trouble> {
        self.0.lock().clone()
    }

    /// This host does not lead any more.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Replaces the troubles. Logs those that have started or ended.
    pub(super) fn set(&self, database: &str, now: Vec<Trouble>) {
        let before = std::mem::replace(&mut *self.0.lock(), now.clone());
        let is_in = |all: &[Trouble], one: &Trouble| all.iter().any(|other| other.place == one.place);
        for Trouble { place: (topic, partition), reason, .. } in
            now.iter().filter(|trouble| !trouble.logged && !is_in(&before, trouble))
        {
            tracing::warn!(
                database,
                topic,
                partition,
                reason,
                "Kafka does not accept records of this partition for now, retrying: check the topic and the \
                 rights of the host's Kafka account"
            );
        }
        for trouble in before.iter().filter(|trouble| !trouble.logged && !is_in(&now, trouble)) {
            let (topic, partition) = &trouble.place;
            let lasted_s = trouble.since.elapsed().as_secs();
            tracing::info!(database, topic, partition, lasted_s, "Kafka accepts records of this partition");
        }
    }
}
