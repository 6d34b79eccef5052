//! Which topic a claim is about. A topic that was deleted and created again has the same name and other
//! records: its topic id shows that.

use anyhow::{Context, bail};
use sqlx::PgPool;

use super::partition::PartitionClaim;
use crate::{kafka::TopicDescription, model::dedup::DedupMarks};

/// What a plugin finds in a partition that it has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// It reads on at its position.
    ItsPosition,
    /// It has never read the partition, which was there when it began to read the topic.
    ItsFirstRead,
    /// It has never read the partition, which was added later.
    AddedPartition,
    /// Its position is about a topic that was deleted and created again.
    TopicMadeAnew,
}

/// Compares a claim with the topic as Kafka describes it now.
///
/// # Errors
/// When Postgres is unreachable.
pub async fn compare_topic(
    pool: &PgPool,
    claim: &PartitionClaim,
    topic: &TopicDescription,
) -> anyhow::Result<Finds> {
    let found: String = sqlx::query_scalar("SELECT saga.compare_topic($1, $2, $3::uuid, $4)")
        .bind(claim.id)
        .bind(claim.epoch)
        .bind(topic.id.map(|id| id.to_string()))
        .bind(topic.partitions)
        .fetch_one(pool)
        .await
        .with_context(|| format!("comparing {}/{} with its topic", claim.topic, claim.partition))?;
    Ok(match &*found {
        "goes_on" => Finds::ItsPosition,
        "begins" => Finds::ItsFirstRead,
        "added" => Finds::AddedPartition,
        "made_anew" => Finds::TopicMadeAnew,
        other => bail!("saga.compare_topic returned {other}; a newer saga-host has migrated the database"),
    })
}

/// Sets the position of a claim, and the topic that it is about, if the claim is still valid. The dedup marks of
/// a topic that was created again are forgotten: until this host noticed it, it may have handled later records
/// of the new topic, which is read from its beginning.
///
/// # Errors
/// When Postgres is unreachable.
pub async fn set_position(
    pool: &PgPool,
    claim: &mut PartitionClaim,
    topic: &TopicDescription,
    (found, offset): (Finds, i64),
) -> anyhow::Result<()> {
    if found == Finds::TopicMadeAnew {
        claim.dedup_marks = DedupMarks::default();
    }
    sqlx::query(
        "UPDATE saga.partition_claim SET next_offset = $1, topic_id = coalesce($2::uuid, topic_id),
                dedup_marks = CASE WHEN $5 THEN '' ELSE dedup_marks END
          WHERE id = $3 AND epoch = $4",
    )
    .bind(offset)
    .bind(topic.id.map(|id| id.to_string()))
    .bind(claim.id)
    .bind(claim.epoch)
    .bind(found == Finds::TopicMadeAnew)
    .execute(pool)
    .await
    .with_context(|| format!("setting the position in {}/{}", claim.topic, claim.partition))?;
    (claim.next_offset, claim.stored_offset) = (offset, offset);
    Ok(())
}
