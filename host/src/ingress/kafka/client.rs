//! The Kafka client of a consumer.

use anyhow::Context;
use rdkafka::consumer::BaseConsumer;

use super::{consumer::ConsumerContext, rebalance::Rebalances};

/// The size of the buffer that the Kafka client fetches ahead, for all partitions together. The response that
/// fills it can exceed it. A backlog fills the buffer, and a pause discards its contents.
const AHEAD_KIB: &str = "1024";
/// How long the Kafka client waits before it fetches a partition again, after it found its buffer full. Its
/// default is 1 s, but a busy lane empties the buffer in less time.
const AHEAD_AGAIN_MS: &str = "20";
/// How long Kafka waits for a first record before it answers a fetch; the default of the Kafka client.
const FETCH_WAIT_MS: u32 = 500;
/// For a plugin that gathers: Kafka answers a fetch early when it has this many bytes, a few hundred records.
const GATHERED_BYTES: u32 = 256 << 10;

/// Creates a Kafka client that is not subscribed to any topic yet.
///
/// # Errors
/// The operator's Kafka properties are invalid.
pub(super) fn client(context: &ConsumerContext, gather_ms: u32) -> anyhow::Result<BaseConsumer<Rebalances>> {
    let group = context.versions.active().version.policy.kafka.group.clone();
    // Kafka answers a fetch as soon as it has one record. For a plugin that gathers, it answers when it has
    // GATHERED_BYTES or when the time to gather has passed.
    let (wait_ms, bytes) = if gather_ms == 0 { (FETCH_WAIT_MS, 1) } else { (gather_ms, GATHERED_BYTES) };
    context
        .backend
        .topics
        .topics()
        .cluster()
        .brokers()
        .client(
            &[
                ("session.timeout.ms", "10000"),
                ("queued.max.messages.kbytes", AHEAD_KIB),
                ("fetch.queue.backoff.ms", AHEAD_AGAIN_MS),
                ("fetch.error.backoff.ms", "50"),
                ("topic.metadata.refresh.interval.ms", "10000"),
                ("fetch.wait.max.ms", &wait_ms.to_string()),
                ("fetch.min.bytes", &bytes.to_string()),
            ],
            &[
                ("group.id", &group),
                // Partitions are claimed and read one by one.
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                // They show that a group works again.
                ("statistics.interval.ms", "5000"),
            ],
        )
        .create_with_context(Rebalances::new(context.clone()))
        .context("setting up the Kafka consumer, check kafka_properties")
}
