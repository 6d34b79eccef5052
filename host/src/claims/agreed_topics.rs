//! The partition counts by which a database's lanes route their records. All hosts of the database agree on
//! them through `saga.topic`, so that they send one key to one partition.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    kafka::{TopicDescription, Topics},
    model::partition_counts::{AgreedCount, PartitionCounts},
};

/// The interval in which the host compares the topics with Kafka.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a comparison that has failed: a change waits only shortly for the units that run.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Which failure in a row is logged.
const LOGGED_FAILURE: u32 = 5;

/// The agreed topics of one database on this host.
#[derive(Debug)]
pub struct AgreedTopics {
    topics: Arc<Topics>,
    pool: PgPool,
    counts: PartitionCounts,
    /// The topic ids that were agreed on.
    ids: Mutex<HashMap<String, Option<Uuid>>>,
}

impl AgreedTopics {
    /// Nothing is agreed yet. `pool` uses the host's own account.
    #[must_use]
    pub fn new(topics: Arc<Topics>, pool: PgPool) -> Self {
        Self { topics, pool, counts: PartitionCounts::default(), ids: Mutex::default() }
    }

    /// The counts.
    #[must_use]
    pub fn counts(&self) -> &PartitionCounts {
        &self.counts
    }

    /// The topics in Kafka.
    #[must_use]
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Creates the missing ones of `names`, and agrees on the partition counts of all.
    ///
    /// # Errors
    /// Kafka or Postgres is unreachable, or Kafka refuses to create a topic.
    pub async fn ensure(&self, mut names: Vec<String>) -> anyhow::Result<()> {
        names.retain(|name| self.counts.get(name).is_none());
        if names.is_empty() {
            return Ok(());
        }
        let described = self.topics.ensure(names).await?;
        self.agree(described).await
    }

    /// Reads what the hosts have agreed on. A lane calls it after it has acquired its lease: a change ends all
    /// leases.
    ///
    /// # Errors
    /// When Postgres is unreachable.
    pub async fn reload(&self) -> anyhow::Result<()> {
        let rows: Vec<(String, i32, i64)> =
            sqlx::query_as("SELECT topic, partitions, version FROM saga.topic WHERE topic = ANY ($1)")
                .bind(self.counts.topics())
                .fetch_all(&self.pool)
                .await
                .context("reading the agreed partition counts")?;
        self.apply(rows);
        Ok(())
    }

    /// Compares the topics with Kafka until `stop`: every 10 s, and at once when some part of the host has
    /// seen that a topic has more partitions.
    ///
    /// # Errors
    /// Never; what fails is tried again.
    pub async fn follow(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let next = async |pause: Duration| {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.topics.grown() => {}
            }
        };
        let (mut pause, mut failures) = (COMPARE_INTERVAL, 0);
        while stop.run_until_cancelled(next(pause)).await.is_some() {
            pause = COMPARE_INTERVAL;
            match self.compare().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    pause = RETRY_PAUSE.saturating_mul(failures).min(COMPARE_INTERVAL);
                    // An outage is reported by those whom it stops. This one would pass unnoticed.
                    if failures == LOGGED_FAILURE {
                        tracing::warn!(
                            "cannot compare topics with Kafka, so added partitions are not used: {error:#}"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    async fn compare(&self) -> anyhow::Result<()> {
        let described = self.topics.describe_known(self.counts.topics()).await?;
        let changed = described.into_iter().filter(|topic| self.differs(topic)).collect();
        self.agree(changed).await
    }

    /// Whether Kafka has more partitions than the hosts have agreed on, or another topic of that name. Fewer
    /// partitions of the same topic are old metadata.
    fn differs(&self, topic: &TopicDescription) -> bool {
        let more = self.counts.get(&topic.name).is_none_or(|agreed| agreed.partitions < topic.partitions);
        let id = self.ids.lock().get(&topic.name).copied().flatten();
        more || id.is_some_and(|id| topic.id.is_some_and(|now| now != id))
    }

    async fn agree(&self, described: Vec<TopicDescription>) -> anyhow::Result<()> {
        if described.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = described.iter().map(|topic| &*topic.name).collect();
        let ids: Vec<Option<String>> =
            described.iter().map(|topic| topic.id.map(|id| id.to_string())).collect();
        let partitions: Vec<i32> = described.iter().map(|topic| topic.partitions).collect();
        let doing = || format!("agreeing on the partition counts of {}", names.join(", "));
        // Without a transaction of its own: a host that is suspended inside one would keep the lock.
        let rows: Vec<(String, i32, i64)> =
            sqlx::query_as("SELECT * FROM saga.agree_topics($1, $2::uuid[], $3)")
                .bind(&names)
                .bind(&ids)
                .bind(&partitions)
                .fetch_all(&self.pool)
                .await
                .with_context(doing)?;
        self.ids.lock().extend(described.iter().map(|topic| (topic.name.clone(), topic.id)));
        self.apply(rows);
        Ok(())
    }

    fn apply(&self, rows: Vec<(String, i32, i64)>) {
        for (topic, partitions, version) in rows {
            let before = self.counts.get(&topic);
            self.counts.set(&topic, AgreedCount { partitions, version });
            if let Some(before) = before.filter(|before| before.version < version) {
                tracing::info!(
                    topic,
                    before = before.partitions,
                    partitions,
                    "the hosts have agreed on a new partition count: later records of a key can go to another \
                     partition"
                );
            }
        }
    }
}
