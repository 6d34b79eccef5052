//! A Kafka client that sends records, with the thread that polls for its answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig},
};

use super::{headers::kafka_headers, in_flight::Place};
use crate::{
    kafka::{Brokers, ClientLog},
    model::record::Record,
};

/// How long one poll for answers blocks. The poll thread of `ThreadedProducer` uses 100 ms and busy-waits for
/// the last of them, so this module has its own poll thread.
const REPORT_POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Records in the queue of the Kafka client, at most. Above the limit of the publisher: it never fills.
const CLIENT_QUEUE_RECORDS_MAX: &str = "500000";
/// Size of one record, at most. Above what brokers accept, so that the broker decides.
const RECORD_BYTES_MAX: &str = "64000000";

/// Kafka's answer to a record: its offset, negative when Kafka does not say it.
pub(super) type Answer = Result<i64, (KafkaError, Place)>;

/// Gets the word that was sent with a record, and the answer.
pub(super) type OnAnswer = dyn Fn(usize, Answer) + Send + Sync;

/// Passes the answers on.
struct Answers {
    on_answer: Box<OnAnswer>,
    log: Arc<ClientLog>,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.note(&error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        if result.is_ok() {
            self.log.works();
        }
        let answer = result
            .as_ref()
            .map(Message::offset)
            .map_err(|(error, message)| (error.clone(), (message.topic().to_owned(), message.partition())));
        (self.on_answer)(opaque, answer);
    }
}

/// A running client. Dropping it discards what it has not sent.
pub(super) struct Client {
    producer: Arc<BaseProducer<Answers>>,
    stopped: Arc<AtomicBool>,
}

impl Client {
    /// Connects in the background. `properties` are required.
    ///
    /// # Errors
    /// librdkafka refuses the operator's Kafka properties, or the system has no thread left.
    pub(super) fn new(
        brokers: &Brokers,
        log: &Arc<ClientLog>,
        properties: &[(&str, &str)],
        on_answer: Box<OnAnswer>,
    ) -> anyhow::Result<Self> {
        let required = [("enable.idempotence", "true"), ("message.timeout.ms", "0"), ("acks", "all")];
        let producer = brokers
            .client(
                &[
                    ("linger.ms", "0"),
                    ("compression.type", "none"),
                    ("queue.buffering.max.messages", CLIENT_QUEUE_RECORDS_MAX),
                    ("message.max.bytes", RECORD_BYTES_MAX),
                ],
                &[&required[..], properties].concat(),
            )
            .create_with_context(Answers { on_answer, log: log.clone() })
            .context("creating the Kafka client of the relay, check kafka_properties")?;
        let (producer, stopped) = (Arc::<BaseProducer<Answers>>::new(producer), Arc::<AtomicBool>::default());
        let (polled, until, log) = (producer.clone(), stopped.clone(), log.clone());
        thread::Builder::new()
            .name("relay-reports".to_owned())
            .spawn(move || {
                while !until.load(Ordering::Acquire) {
                    polled.poll(REPORT_POLL_TIMEOUT);
                    log.recheck(polled.client());
                }
            })
            .context("starting the thread that polls the Kafka client of the relay")?;
        Ok(Self { producer, stopped })
    }

    /// Passes a record of an outbox row to the client, with the word that its answer returns.
    ///
    /// # Errors
    /// The client's queue is full, the client has given up, or it knows no such partition.
    pub(super) fn send(
        &self,
        opaque: usize,
        record: &Record,
        (seq, index): (i64, usize),
        timestamp_ms: i64,
    ) -> Result<(), KafkaError> {
        let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, opaque)
            .partition(record.partition)
            .timestamp(timestamp_ms)
            .headers(kafka_headers(record, seq, index));
        if let Some(key) = &record.key {
            message = message.key(&**key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(&**payload);
        }
        self.producer.send(message).map_err(|(error, _)| error)
    }

    /// Why the client has given up, if it has.
    pub(super) fn fatal_reason(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(_, reason)| reason)
    }

    /// Records without an answer.
    pub(super) fn unanswered(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

impl Drop for Client {
    /// What is still queued is in the outbox: the next client sends it.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.stopped.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
