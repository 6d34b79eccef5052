//! How large a batch may be. Brokers refuse one that is larger than the topic's `max.message.bytes`, even when
//! each of its records is small.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};

use crate::kafka::{Brokers, ClientLog};

/// The size of a batch of several records, at most, by librdkafka's default.
pub(super) const BATCH_BYTES_MAX: usize = 1_000_000;
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The size to use after a topic has refused a batch of up to `current` bytes: the limit of the topic, or half
/// the size when this account may not read it.
pub(super) async fn after_refusal(brokers: &Brokers, topic: &str, current: usize) -> usize {
    let limit = topic_limit(brokers, topic).await.filter(|limit| *limit < current);
    limit.unwrap_or(current / 2).max(1)
}

async fn topic_limit(brokers: &Brokers, topic: &str) -> Option<usize> {
    let log = ClientLog::new(format!("limits of topic {topic}"));
    let admin: AdminClient<ClientLog> = brokers.client(&[], &[]).create_with_context(log).ok()?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await.ok()?;
    let resource = described.into_iter().next()?.ok()?;
    resource.get("max.message.bytes")?.value.as_deref()?.parse().ok()
}
