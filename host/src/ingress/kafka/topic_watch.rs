//! Notices that a topic was deleted and created again while its partitions are read: the Kafka client then
//! continues at the old position where the new topic has one. Or it never reads the new topic, because its
//! leader epochs are lower than those that it knows. So it is replaced.

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
    /// The topic ids under which partitions were claimed.
    claimed: HashMap<Arc<str>, Uuid>,
    description: Option<JoinHandle<anyhow::Result<Vec<TopicDescription>>>>,
    compare_at: Instant,
}

impl TopicWatch {
    pub(super) fn new() -> Self {
        Self { claimed: HashMap::new(), description: None, compare_at: Instant::now() + COMPARE_INTERVAL }
    }

    /// A partition of the topic was claimed while it had this id. Returns whether earlier claims are about
    /// another topic of that name.
    pub(super) fn claimed(&mut self, topic: Arc<str>, id: Option<Uuid>) -> bool {
        id.is_some_and(|id| self.claimed.insert(topic, id).is_some_and(|before| before != id))
    }

    /// Only these topics are read from now on.
    pub(super) fn keep(&mut self, topics: &[String]) {
        self.claimed.retain(|topic, _| topics.iter().any(|kept| **kept == **topic));
    }

    /// Describes the topics when it is due. Returns whether one was created again since it was claimed.
    pub(super) fn made_anew(&mut self, runtime: &Handle, topics: &Arc<Topics>) -> bool {
        if let Some(description) = &mut self.description {
            let Some(described) = description.now_or_never() else { return false };
            self.description = None;
            // While Kafka is unreachable, nothing is known; the consumer shows that.
            return self.changed(described.ok().and_then(Result::ok).unwrap_or_default());
        }
        let now = Instant::now();
        if now >= self.compare_at && !self.claimed.is_empty() {
            self.compare_at = now + COMPARE_INTERVAL;
            let names = self.claimed.keys().map(ToString::to_string).collect();
            let topics = topics.clone();
            self.description = Some(runtime.spawn(async move { topics.describe_known(names).await }));
        }
        false
    }

    fn changed(&self, described: Vec<TopicDescription>) -> bool {
        described.into_iter().any(|TopicDescription { name, id, .. }| {
            let claimed = self.claimed.get(&*name);
            claimed.is_some_and(|claimed| id.is_some_and(|id| id != *claimed))
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{TopicDescription, TopicWatch};

    fn described(id: Option<u128>) -> Vec<TopicDescription> {
        vec![TopicDescription { name: "t".to_owned(), id: id.map(Uuid::from_u128), partitions: 3 }]
    }

    #[test]
    fn another_id_is_another_topic() {
        let mut watch = TopicWatch::new();
        assert!(!watch.claimed("t".into(), Some(Uuid::from_u128(1))));
        assert!(!watch.changed(described(Some(1))));
        assert!(!watch.changed(described(None)));
        assert!(watch.changed(described(Some(2))));
    }

    #[test]
    fn a_claim_of_the_new_topic_shows_that_earlier_ones_are_of_the_old() {
        let mut watch = TopicWatch::new();
        assert!(!watch.claimed("t".into(), Some(Uuid::from_u128(1))));
        assert!(!watch.claimed("t".into(), None));
        assert!(watch.claimed("t".into(), Some(Uuid::from_u128(2))));
        watch.keep(&["t".to_owned()]);
        assert!(!watch.claimed("t".into(), Some(Uuid::from_u128(2))));
        watch.keep(&[]);
        assert!(!watch.claimed("t".into(), Some(Uuid::from_u128(3))));
    }
}
