//! Changes topics as an operator does: adds partitions, deletes a topic and creates it again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::types::RDKafkaErrorCode;

use super::{CALL_TIMEOUT, blocking, partitions};

const CHANGED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

fn client(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().context("a Kafka client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(CALL_TIMEOUT))
}

/// Adds `more` partitions; returns how many there are then.
///
/// # Errors
/// Kafka is unreachable or refuses.
pub async fn add_partitions(brokers: &str, topic: &str, more: i32) -> Result<i32> {
    let total = count(brokers, topic).await? + more;
    let wanted = NewPartitions::new(topic, usize::try_from(total)?);
    let outcomes = client(brokers)?.create_partitions([&wanted], &options()).await?;
    ensure!(outcomes.iter().all(Result::is_ok), "partitions of {topic}: {outcomes:?}");
    until(brokers, topic, total).await?;
    Ok(total)
}

/// Deletes a topic with its records, and creates it with as many partitions.
///
/// # Errors
/// Kafka is unreachable or refuses.
pub async fn make_anew(brokers: &str, topic: &str) -> Result<()> {
    let total = count(brokers, topic).await?;
    let client = client(brokers)?;
    let outcomes = client.delete_topics(&[topic], &options()).await?;
    ensure!(outcomes.iter().all(Result::is_ok), "delete {topic}: {outcomes:?}");
    let began = Instant::now();
    loop {
        let new = NewTopic::new(topic, total, TopicReplication::Fixed(1));
        match client.create_topics([&new], &options()).await?.pop() {
            // The deletion is under way.
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) if began.elapsed() < CHANGED_WITHIN => {
                tokio::time::sleep(POLL).await;
            }
            Some(Err((_, code))) => anyhow::bail!("create {topic}: {code}"),
            _ => return until(brokers, topic, total).await,
        }
    }
}

async fn count(brokers: &str, topic: &str) -> Result<i32> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    blocking(move || partitions(&brokers, &topic)).await
}

async fn until(brokers: &str, topic: &str, total: i32) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = count(brokers, topic).await;
        if matches!(now, Ok(count) if count == total) {
            return Ok(());
        }
        ensure!(began.elapsed() < CHANGED_WITHIN, "{topic} has {now:?} partitions, not {total}");
        tokio::time::sleep(POLL).await;
    }
}
