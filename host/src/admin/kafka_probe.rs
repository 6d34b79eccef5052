//! Whether the brokers answer, asked at most once a second, however often `/readyz` is called.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::kafka::Cluster;

const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks the brokers for their metadata.
pub(super) struct KafkaProbe {
    cluster: Cluster,
    last: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl KafkaProbe {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, last: Mutex::default() }
    }

    /// The last answer if it is recent, otherwise a new one.
    pub(super) async fn answers(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = &*last
            && at.elapsed() < ASK_EVERY
        {
            return outcome.clone();
        }
        let outcome = self.cluster.answers().await.map_err(|error| format!("{error:#}"));
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}
