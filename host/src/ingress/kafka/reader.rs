//! Reads a plugin's topics on a thread of its own: polls the Kafka client, and adds the records to the lane's
//! queue. While the queue is full, it pauses all partitions. It drops no record that the plugin must handle.

mod claiming;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rdkafka::{
    Message,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use self::claiming::Attempted;
use super::{
    burst::ReadUpTo,
    client::client,
    consumer::ConsumerContext,
    hand_over::HandedOver,
    health::Part,
    offsets::{Commits, commit_all},
    probe::{About, about, check},
    rebalance::Rebalances,
    record::{RawRecord, delivery},
    topic_watch::TopicWatch,
    unclaimed::Unclaimed,
};
use crate::{
    claims::partitions::TopicPartition, fault_point, kafka::raw_headers::raw_headers,
    model::delivery::Delivery, relay::hand_over::Receiver,
};

/// The longest wait for a record, for room in the queue, or for the lane to ask for records.
const POLL: Duration = Duration::from_millis(250);
/// The same while partitions are being claimed.
const POLL_CLAIMING: Duration = Duration::from_millis(10);
/// The pause after a small burst of records that were all handed over before. Nobody waits for the next ones,
/// so they are read together.
const REPEATS_PAUSE: Duration = Duration::from_millis(50);
/// The interval in which a consumer in trouble finds out whether the trouble has ended.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// The number of records after which a burst goes to the lane.
const BURST_RECORDS_MAX: usize = 512;
/// The size of the records after which a burst goes to the lane.
const BURST_BYTES_MAX: usize = 1 << 20;

/// Why a reader stops.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReaderExit {
    HostStopped,
    /// A new Kafka client is needed: the active version gathers for another time, and the setting of a client
    /// cannot change, or a topic was deleted and created again.
    ClientOutdated,
}

pub(super) struct TopicReader {
    consumer: BaseConsumer<Rebalances>,
    gather_ms: u32,
    context: ConsumerContext,
    runtime: Handle,
    topics: Vec<String>,
    names: HashMap<String, Arc<str>>,
    /// What Kafka assigns to this host.
    assigned: HashSet<TopicPartition>,
    unclaimed: Unclaimed,
    watch: TopicWatch,
    /// Whether a topic was created again since this client has read it.
    must_replace: bool,
    attempts: (mpsc::Sender<Attempted>, mpsc::Receiver<Attempted>),
    /// The last check whether a trouble has ended, and when the next is due.
    check: Option<AbortOnDropHandle<()>>,
    check_at: Instant,
    commits: Commits,
    handed_over: Arc<HandedOver>,
    paused: bool,
}

/// Also after a panic: nothing is handed over to a reader that has ended.
impl Drop for TopicReader {
    fn drop(&mut self) {
        self.receive(&[]);
    }
}

impl TopicReader {
    pub(super) fn new(context: ConsumerContext, runtime: Handle) -> anyhow::Result<Self> {
        let gather_ms = context.versions.active().version.manifest.gather_ms;
        // Claims and troubles of an earlier client are of no use: this one is assigned its partitions anew.
        context.claims.remove_all();
        context.health.clear(&context.backend.plugin);
        let handed_over = HandedOver::new(context.clone());
        Ok(Self {
            consumer: client(&context, gather_ms)?,
            gather_ms,
            context,
            runtime,
            topics: Vec::new(),
            names: HashMap::new(),
            assigned: HashSet::new(),
            unclaimed: Unclaimed::default(),
            watch: TopicWatch::new(),
            must_replace: false,
            attempts: mpsc::channel(),
            check: None,
            check_at: Instant::now(),
            commits: Commits::new(),
            handed_over: Arc::new(handed_over),
            paused: false,
        })
    }

    pub(super) fn run(&mut self) -> ReaderExit {
        let ended = loop {
            if self.context.stop.is_cancelled() {
                break ReaderExit::HostStopped;
            }
            if self.context.versions.active().version.manifest.gather_ms != self.gather_ms {
                break ReaderExit::ClientOutdated;
            }
            self.subscribe();
            self.claim_partitions();
            if self.must_replace {
                break ReaderExit::ClientOutdated;
            }
            self.check_troubles();
            self.pause_or_resume();
            self.commits.commit_due(&self.consumer, &self.context.claims);
            let wait = if self.unclaimed.is_claiming() { POLL_CLAIMING } else { POLL };
            if self.paused {
                self.context.queue.wait_for_room(wait);
                self.pause_or_resume();
            }
            self.context.queue.wait_for_demand(wait);
            let burst = self.read(wait);
            if !burst.is_empty() {
                let read = ReadUpTo::of(&burst);
                self.consumer.context().read.lock().deliver(&read);
                let is_small = burst.len() < BURST_RECORDS_MAX / 2;
                self.context.queue.push_all(burst);
                if self.handed_over.read(&read) && is_small {
                    std::thread::sleep(REPEATS_PAUSE);
                }
            }
        };
        commit_all(&self.consumer, &self.context.claims, CommitMode::Sync);
        ended
    }

    /// Relays hand over the records of these topics.
    fn receive(&self, topics: &[String]) {
        let receiver: Arc<dyn Receiver> = self.handed_over.clone();
        self.context.receivers.set_topics(&receiver, topics);
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
        self.watch.read(self.topics.clone());
        self.names = self.topics.iter().map(|topic| (topic.clone(), Arc::from(topic.as_str()))).collect();
        self.handed_over.set_topics(&self.names);
        self.receive(&self.topics);
        if self.topics.is_empty() {
            self.consumer.unsubscribe();
            return;
        }
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            let plugin = &self.context.backend.plugin;
            tracing::error!(plugin, reason = %error, "cannot subscribe to the topics of the plugin");
        }
    }

    /// While something is wrong, finds out in the background whether it still is.
    fn check_troubles(&mut self) {
        let now = Instant::now();
        if now < self.check_at || self.check.as_ref().is_some_and(|check| !check.is_finished()) {
            return;
        }
        self.check_at = now + CHECK_EVERY;
        let checked = |part: &Part| !matches!(part, Part::Unclaimed(_));
        self.check = self
            .context
            .health
            .has(checked)
            .then(|| AbortOnDropHandle::new(self.runtime.spawn(check(self.context.clone()))));
    }

    /// Pauses all partitions when the lane's queue is full, and resumes them when it has room.
    fn pause_or_resume(&mut self) {
        let full = self.context.queue.is_full();
        if full == self.paused {
            return;
        }
        let partitions = self.consumer.assignment();
        let done = match full {
            true => partitions.and_then(|all| self.consumer.pause(&all)),
            false => partitions.and_then(|all| self.consumer.resume(&all)),
        };
        let plugin = &self.context.backend.plugin;
        match done {
            Ok(()) => {
                tracing::debug!(plugin, paused = full, "whether the lane's queue is full has changed");
                self.paused = full;
            }
            Err(error) => tracing::warn!(plugin, reason = %error, "cannot pause or resume the consumer"),
        }
    }

    /// Waits for a record. Returns it together with all others that the Kafka client already has, up to the
    /// limits of a burst and of the queue, so that the lane gets them at once. While the partitions are paused,
    /// it does not wait: no record comes, and the Kafka client only handles its events, such as rebalances.
    fn read(&mut self, wait: Duration) -> Vec<(Delivery, usize)> {
        let mut burst = Vec::new();
        let mut bytes = 0;
        let bytes_max = self.context.queue.room().min(BURST_BYTES_MAX);
        let mut wait = if self.paused || bytes_max == 0 { Duration::ZERO } else { wait };
        loop {
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
            if burst.len() >= BURST_RECORDS_MAX || bytes >= bytes_max {
                break;
            }
            wait = Duration::ZERO;
        }
        if !burst.is_empty() && self.context.health.has(|part| *part == Part::Connection) {
            self.context.health.end(&self.context.backend.plugin, |part| *part == Part::Connection);
        }
        burst
    }

    /// The delivery of a record; none when this host has no claim of the partition, or when the active
    /// version does not read the topic.
    fn delivery(&self, message: &BorrowedMessage<'_>) -> Option<Delivery> {
        fault_point::reach("record-read");
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
        let record = RawRecord {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key(),
            payload: message.payload(),
        };
        let headers = raw_headers(message).map_err(|error| error.to_string());
        Some(delivery(record, headers, subscription, name, epoch))
    }

    /// An error of the Kafka client, which retries by itself.
    fn trouble(&mut self, error: &KafkaError) {
        let plugin = &self.context.backend.plugin;
        let part = match about(error) {
            About::Connection => Part::Connection,
            About::Records => Part::Records,
            About::Group => Part::Group,
            About::OutOfRange => {
                // The Kafka client stops reading a partition when Kafka no longer has the next record, and
                // does not report which partition it is. Claiming compares the position with the offsets that
                // Kafka has: a partition whose position is outside of them is not read, and the others
                // continue.
                return self.claim_again(|_| true);
            }
        };
        self.context.health.begin(plugin, part, format!("cannot read from Kafka: {error}"));
    }
}
