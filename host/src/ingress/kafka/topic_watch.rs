//! Notices that a topic was deleted and created again since the Kafka client knows it. The client must then be
//! replaced: it continues at the old position where the new topic has one, or never reads the new topic, because
//! the leader epochs of that one are lower than those that it knows.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::{runtime::Handle, task::JoinHandle};
use uuid::Uuid;

use crate::kafka::{TopicDescription, Topics};

const COMPARE_INTERVAL: Duration = Duration::from_secs(10);

/// The topics that a consumer reads.
#[derive(Debug)]
pub(super) struct TopicWatch {
    topics: Vec<String>,
    /// The topic ids that were seen first, of all topics that the client has read.
    ids: HashMap<String, Uuid>,
    description: Option<JoinHandle<anyhow::Result<Vec<TopicDescription>>>>,
    compare_at: Instant,
}

impl TopicWatch {
    pub(super) fn new() -> Self {
        let compare_at = Instant::now();
        Self { topics: Vec::new(), ids: HashMap::new(), description: None, compare_at }
    }

    /// These topics are read from now on.
    pub(super) fn read(&mut self, topics: Vec<String>) {
        self.topics = topics;
        self.compare_at = Instant::now();
    }

    /// Notes the id of a topic; none where the brokers know no ids. Returns whether it was created again.
    pub(super) fn note(&mut self, topic: &str, id: Option<Uuid>) -> bool {
        let Some(id) = id.filter(|_| self.topics.iter().any(|read| read == topic)) else { return false };
        *self.ids.entry(topic.to_owned()).or_insert(id) != id
    }

    /// Describes the topics when it is due. Returns whether one was created again.
    pub(super) fn made_anew(&mut self, runtime: &Handle, topics: &Arc<Topics>) -> bool {
        if let Some(description) = &mut self.description {
            let Some(described) = description.now_or_never() else { return false };
            self.description = None;
            // While Kafka is unreachable, nothing is known; the consumer shows that.
            let described = described.ok().and_then(Result::ok).unwrap_or_default();
            return described.into_iter().any(|topic| self.note(&topic.name, topic.id));
        }
        let now = Instant::now();
        if now >= self.compare_at && !self.topics.is_empty() {
            self.compare_at = now + COMPARE_INTERVAL;
            let (names, topics) = (self.topics.clone(), topics.clone());
            self.description = Some(runtime.spawn(async move { topics.describe_known(names).await }));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::TopicWatch;

    #[test]
    fn another_id_is_another_topic() {
        let (one, two) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let mut watch = TopicWatch::new();
        watch.read(vec!["t".to_owned()]);
        for (topic, id, made_anew) in [
            ("t", None, false),
            ("t", one, false),
            ("t", None, false),
            ("t", one, false),
            ("not-read", one, false),
            ("not-read", two, false),
            ("t", two, true),
        ] {
            assert_eq!(watch.note(topic, id), made_anew, "{topic} {id:?}");
        }
        watch.read(Vec::new());
        watch.read(vec!["t".to_owned()]);
        assert!(watch.note("t", two), "the client knows the first one, also while the plugin is suspended");
    }
}
