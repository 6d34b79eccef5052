//! The consumer: reads a plugin's topics on a thread of its own. It claims the partitions that Kafka assigns,
//! reads each from the position in the database, and adds the records to the lane's queue. While the queue is
//! full, it pauses all partitions. It drops no record that the plugin must handle.
//!
//! It commits offsets to Kafka only so that other tools can show the consumer lag. The host reads its
//! positions from the database, never from Kafka; only `start = "group:NAME"` reads the offsets of a group.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::health::ConsumerHealth;
use super::{
    claims::{Claims, commit, places},
    record::delivery,
};
use crate::{
    claims::partitions::{PartitionClaims, TopicPartition},
    kafka::Brokers,
    model::{delivery::Delivery, queue::Queue},
    unit::Backend,
    versions::PluginVersions,
};

/// The longest wait for a record, for room in the queue, or for the lane to ask for records.
const POLL: Duration = Duration::from_millis(250);
/// The interval in which positions that have changed are committed to Kafka.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// The interval in which positions are committed even if none has changed: Kafka rejects a commit during a
/// rebalance, and librdkafka does not report the rejection.
const COMMIT_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// The pause before a partition that the lane has given up is claimed again. In that time Kafka can assign it
/// to the host that has claimed it.
const CLAIM_BACK_AFTER: Duration = Duration::from_secs(2);
/// The number of records after which a burst goes to the lane.
const BURST_RECORDS_MAX: usize = 512;
/// The size of the records after which a burst goes to the lane.
const BURST_BYTES_MAX: usize = 1 << 20;
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
/// The longest wait for the Kafka client to seek, or for Kafka to tell the offsets of a partition.
pub(super) const SEEK_WITHIN: Duration = Duration::from_secs(10);

/// The parts that a consumer works with.
#[derive(Clone, Debug)]
pub struct ConsumerContext {
    /// The plugin, its database and its role.
    pub backend: Arc<Backend>,
    /// The plugin's versions on this host. The active one determines the topics and how long to gather.
    pub versions: Arc<PluginVersions>,
    /// The lane's queue.
    pub queue: Arc<Queue<Delivery>>,
    /// The claimed partitions, shared with the lane. Only their records go to the lane.
    pub claims: Arc<PartitionClaims>,
    /// The state that the host API shows.
    pub health: Arc<ConsumerHealth>,
    /// The brokers to connect to.
    pub brokers: Brokers,
    /// Stops the consumer, which then commits its positions to Kafka a last time.
    pub stop: CancellationToken,
}

/// Starts the consumer's thread, which ends soon after [`ConsumerContext::stop`].
///
/// # Errors
/// The operator's Kafka properties are invalid, or the system cannot start a thread.
pub fn spawn(context: ConsumerContext) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = Handle::current();
    let mut reader = TopicReader::new(context.clone(), runtime.clone())?;
    let name = format!("consume {}", context.backend.plugin);
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            while reader.run() == ReaderExit::GatherTimeChanged {
                drop(reader);
                match TopicReader::new(context.clone(), runtime.clone()) {
                    Ok(another) => reader = another,
                    Err(error) => {
                        tracing::error!(plugin = context.backend.plugin, "{error:#}");
                        *context.health.trouble.lock() = Some(format!("{error:#}"));
                        return;
                    }
                }
            }
        })
        .context("starting the consumer's thread")
}

/// Creates a Kafka client that is not subscribed to any topic yet.
fn client(
    context: &ConsumerContext,
    runtime: Handle,
    gather_ms: u32,
) -> anyhow::Result<BaseConsumer<Claims>> {
    let group = context.versions.active().version.policy.kafka.group.clone();
    // Kafka answers a fetch as soon as it has one record. For a plugin that gathers, it answers when it has
    // GATHERED_BYTES or when the time to gather has passed.
    let (wait_ms, bytes) = if gather_ms == 0 { (FETCH_WAIT_MS, 1) } else { (gather_ms, GATHERED_BYTES) };
    let claims = Claims { context: context.clone(), runtime };
    context
        .brokers
        .client(
            &[
                ("session.timeout.ms", "10000"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("queued.max.messages.kbytes", AHEAD_KIB),
                ("fetch.queue.backoff.ms", AHEAD_AGAIN_MS),
                ("fetch.error.backoff.ms", "50"),
                ("topic.metadata.refresh.interval.ms", "30000"),
                ("fetch.wait.max.ms", &wait_ms.to_string()),
                ("fetch.min.bytes", &bytes.to_string()),
            ],
            &[
                ("group.id", &group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
            ],
        )
        .create_with_context(claims)
        .context("setting up the Kafka consumer")
}

/// Why a reader stops.
#[derive(Debug, PartialEq, Eq)]
enum ReaderExit {
    HostStopped,
    /// The active version gathers for another time: a new Kafka client is needed, because the setting of a
    /// client cannot change.
    GatherTimeChanged,
}

struct TopicReader {
    consumer: BaseConsumer<Claims>,
    gather_ms: u32,
    context: ConsumerContext,
    topics: Vec<String>,
    names: HashMap<String, Arc<str>>,
    lost: Vec<(TopicPartition, Instant)>,
    paused: bool,
    commit_at: Instant,
    commit_again_at: Instant,
    committed: Vec<(Arc<str>, i32, i64)>,
}

impl TopicReader {
    fn new(context: ConsumerContext, runtime: Handle) -> anyhow::Result<Self> {
        let gather_ms = context.versions.active().version.manifest.gather_ms;
        Ok(Self {
            consumer: client(&context, runtime, gather_ms)?,
            gather_ms,
            context,
            topics: Vec::new(),
            names: HashMap::new(),
            lost: Vec::new(),
            paused: false,
            commit_at: Instant::now() + COMMIT_EVERY,
            commit_again_at: Instant::now() + COMMIT_AGAIN_EVERY,
            committed: Vec::new(),
        })
    }

    fn run(&mut self) -> ReaderExit {
        let ended = loop {
            if self.context.stop.is_cancelled() {
                break ReaderExit::HostStopped;
            }
            if self.context.versions.active().version.manifest.gather_ms != self.gather_ms {
                break ReaderExit::GatherTimeChanged;
            }
            self.subscribe();
            self.claim_back();
            if self.paused {
                self.context.queue.wait_for_room(POLL);
                self.resume();
            }
            if Instant::now() >= self.commit_at {
                self.commit_changes();
                self.commit_at = Instant::now() + COMMIT_EVERY;
            }
            self.context.queue.wait_for_demand(POLL);
            let burst = self.read();
            if !burst.is_empty() {
                self.context.queue.push_all(burst);
            }
            if !self.paused && self.context.queue.is_full() {
                self.pause();
            }
        };
        commit(&self.consumer, &self.context.claims, CommitMode::Sync);
        ended
    }

    fn commit_changes(&mut self) {
        let positions = self.context.claims.positions();
        if positions != self.committed || Instant::now() >= self.commit_again_at {
            commit(&self.consumer, &self.context.claims, CommitMode::Async);
            self.committed = positions;
            self.commit_again_at = Instant::now() + COMMIT_AGAIN_EVERY;
        }
    }

    /// Subscribes to the topics of the active version, or to none while the plugin is suspended. Does nothing
    /// when the topics are the same as before.
    fn subscribe(&mut self) {
        let active = self.context.versions.active();
        let runs = self.context.versions.suspended().is_none();
        let subscriptions = active.version.manifest.subscriptions.iter().filter(|_| runs);
        let wanted = subscriptions.map(|subscription| &subscription.topic);
        if wanted.clone().eq(&self.topics) {
            return;
        }
        self.topics = wanted.cloned().collect();
        if self.topics.is_empty() {
            self.consumer.unsubscribe();
            return;
        }
        self.names = self.topics.iter().map(|topic| (topic.clone(), Arc::from(topic.as_str()))).collect();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            let plugin = &self.context.backend.plugin;
            tracing::error!(plugin, reason = %error, "cannot subscribe to the topics of the plugin");
        }
    }

    /// Waits up to [`POLL`] for a record. Returns it together with all others that the Kafka client already
    /// has, up to the limits of a burst, so that the lane gets them at once. While the partitions are paused,
    /// it does not wait: no record comes, and the Kafka client only handles its events, such as rebalances.
    fn read(&self) -> Vec<(Delivery, usize)> {
        let mut burst = Vec::new();
        let mut bytes = 0;
        let mut wait = if self.paused { Duration::ZERO } else { POLL };
        while burst.len() < BURST_RECORDS_MAX && bytes < BURST_BYTES_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    if let Some(delivery) = self.delivery(&message) {
                        let size = delivery.size();
                        bytes += size;
                        burst.push((delivery, size));
                    }
                }
                Some(Err(error)) => {
                    self.trouble(&error);
                    return burst;
                }
            }
            wait = Duration::ZERO;
        }
        if !burst.is_empty() {
            *self.context.health.trouble.lock() = None;
        }
        burst
    }

    /// The delivery of a record; none when this host has no claim of the partition, or when the active
    /// version does not read the topic.
    fn delivery(&self, message: &rdkafka::message::BorrowedMessage<'_>) -> Option<Delivery> {
        let active = self.context.versions.active();
        let mut subscriptions = active.version.manifest.subscriptions.iter();
        let subscription = subscriptions.find(|subscription| subscription.topic == message.topic());
        let name = self.names.get(message.topic());
        let (Some(subscription), Some(name)) = (subscription, name) else {
            // This record is dropped, so the claim is given up, too. A later version that reads the topic
            // claims the partition again and reads the record; under the old claim it would skip it.
            self.context.claims.lose((Arc::from(message.topic()), message.partition()));
            return None;
        };
        let epoch = self.context.claims.epoch(&(name.clone(), message.partition()))?;
        Some(delivery(message, subscription, name, epoch))
    }

    fn pause(&mut self) {
        if !self.paused {
            tracing::debug!(
                plugin = self.context.backend.plugin,
                "the lane's queue is full: consumer paused"
            );
        }
        self.paused = true;
        if let Err(error) = self.consumer.assignment().and_then(|all| self.consumer.pause(&all)) {
            let plugin = &self.context.backend.plugin;
            tracing::warn!(plugin, reason = %error, "cannot pause the consumer");
        }
    }

    fn resume(&mut self) {
        if self.context.queue.is_full() {
            return;
        }
        self.paused = false;
        if let Err(error) = self.consumer.assignment().and_then(|all| self.consumer.resume(&all)) {
            let plugin = &self.context.backend.plugin;
            tracing::warn!(plugin, reason = %error, "cannot resume the consumer");
        }
    }

    /// Claims partitions again that the lane gave up and that Kafka still assigns to this host.
    fn claim_back(&mut self) {
        let now = Instant::now();
        self.lost.extend(self.context.claims.take_lost().into_iter().map(|place| (place, now)));
        if self.lost.is_empty() {
            return;
        }
        let assigned = self.consumer.assignment().map(|list| places(&list)).unwrap_or_default();
        let (due, later) = std::mem::take(&mut self.lost)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, since)| now.duration_since(*since) >= CLAIM_BACK_AFTER);
        self.lost = later;
        for (place, _) in due {
            // A rebalance may have claimed it already. Another claim would raise the epoch again, and the
            // unit that runs under the present epoch would fail.
            if !assigned.contains(&place) || self.context.claims.epoch(&place).is_some() {
                continue;
            }
            if let Err(error) = self.read_again(&place) {
                tracing::warn!(plugin = self.context.backend.plugin, "{error:#}");
                self.lost.push((place, now));
            }
        }
    }

    /// Claims a partition again and seeks to the position in the database, and only then uses the claim.
    /// Before the seek, the Kafka client still has later records in its buffer. Under the new claim these
    /// would advance the position past records that were not handled.
    fn read_again(&self, place: &TopicPartition) -> anyhow::Result<()> {
        let claims = self.consumer.context();
        let Some(claim) = claims.claim(&self.consumer, place)? else { return Ok(()) };
        let offset = claim.next_offset;
        let seek = self.consumer.seek(&place.0, place.1, Offset::Offset(offset), SEEK_WITHIN);
        seek.or_else(|_given_up| self.assign_again(place, offset))
            .with_context(|| format!("reading {}/{} again from {offset}", place.0, place.1))?;
        self.context.claims.insert(claim);
        Ok(())
    }

    /// Removes a partition from the assignment and adds it at `offset`: the Kafka client cannot seek in a
    /// partition that it has stopped reading.
    fn assign_again(&self, place: &TopicPartition, offset: i64) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&place.0, place.1, Offset::Offset(offset))?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    /// Reports an error of the Kafka client, in the log and to the host API.
    fn trouble(&self, error: &KafkaError) {
        let plugin = &self.context.backend.plugin;
        tracing::warn!(plugin, reason = %error, "cannot read from Kafka, retrying");
        *self.context.health.trouble.lock() = Some(error.to_string());
        if is_out_of_range(error) {
            self.claim_all_again();
        }
    }

    /// Gives up all claims, so that [`Self::claim_back`] claims each partition again. The Kafka client stops
    /// reading a partition when Kafka no longer has the next record, and does not report which partition it
    /// is. Claiming compares the position with the offsets that Kafka has: a partition whose position is
    /// outside of them is not read, and the others continue.
    fn claim_all_again(&self) {
        for (topic, partition, _) in self.context.claims.positions() {
            self.context.claims.lose((topic, partition));
        }
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}
