//! Claims a partition that Kafka assigns to this host, and finds the position from which it is read. A claim
//! raises the epoch of the partition, which fences the host that had it before.

use anyhow::{Context, bail};
use uuid::Uuid;

use super::{consumer::ConsumerContext, start};
use crate::claims::{
    partition::{PartitionClaim, claim_partition},
    partitions::TopicPartition,
    topic::{Finds, compare_topic, set_position},
};

/// A partition that is claimed and can be read.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) claim: PartitionClaim,
    /// Of its topic, as far as the brokers know topic ids.
    pub(super) topic_id: Option<Uuid>,
}

/// Claims a partition. None when the topic no longer has it: the group can assign it for a while after the topic
/// was created again with fewer partitions.
///
/// # Errors
/// Why it cannot be read now: Postgres or Kafka is unreachable, or its position is outside of the offsets that
/// Kafka has. Then nobody knows which records are missing.
pub(super) async fn claim(
    context: &ConsumerContext,
    place: &TopicPartition,
) -> anyhow::Result<Option<Claimed>> {
    let (backend, (topic, partition)) = (&context.backend, place);
    let topics = backend.topics.topics();
    let described = topics.describe(vec![topic.to_string()]).await?;
    let described = described.first().with_context(|| format!("Kafka has no topic {topic}"))?;
    if *partition >= described.partitions {
        return Ok(None);
    }
    let mut claim = claim_partition(&backend.database, &backend.role, topic, *partition).await?;
    let (low, high) = topics.cluster().offsets(topic, *partition).await?;
    let found = compare_topic(&backend.database.admin, &claim, described).await?;
    let offset = match found {
        Finds::ItsPosition => claim.next_offset,
        Finds::ItsFirstRead => {
            let start = &context.versions.active().version.policy.kafka.start;
            start::first_offset(topics.cluster().brokers(), start, place, (low, high)).await?
        }
        Finds::AddedPartition | Finds::TopicMadeAnew => low,
    };
    report(context, place, found, (claim.next_offset, offset));
    if offset < low || offset > high {
        bail!(out_of_range(context, &claim, low, high));
    }
    set_position(&backend.database.admin, &mut claim, described, (found, offset)).await?;
    Ok(Some(Claimed { claim, topic_id: described.id }))
}

fn report(context: &ConsumerContext, place: &TopicPartition, found: Finds, positions: (i64, i64)) {
    let (plugin, (topic, partition)) = (&context.backend.plugin, place);
    let (before, offset) = positions;
    match found {
        Finds::TopicMadeAnew => tracing::warn!(
            plugin,
            topic = &**topic,
            partition,
            before,
            offset,
            "the topic was deleted and created again; the plugin reads it from its beginning"
        ),
        _ => tracing::debug!(plugin, topic = &**topic, partition, offset, ?found, "partition claimed"),
    }
}

fn out_of_range(context: &ConsumerContext, claim: &PartitionClaim, low: i64, high: i64) -> String {
    let PartitionClaim { id, topic, partition, next_offset, .. } = claim;
    format!(
        "{topic}/{partition} is not read: the next offset of {} is {next_offset}, but Kafka has the offsets \
         from {low} to {high}. Records were deleted that the plugin had not read, or the log was truncated. To \
         continue from {low}, run UPDATE saga.partition_claim SET next_offset = {low} WHERE id = {id} in the \
         database {}; the host then reads it by itself",
        context.backend.plugin, context.backend.database.name
    )
}
