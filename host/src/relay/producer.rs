//! Sending to Kafka: idempotent, in order, without gaps; counts what is acknowledged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig},
};
use tokio::sync::Notify;

use crate::{kafka::Brokers, model::record::Record};

/// How long the thread that takes reports waits for one. The client's own thread waits for 100 ms, and the
/// last one of them it spends at full speed.
const REPORT_WITHIN: Duration = Duration::from_secs(1);

/// What became of the records that were sent, gathered between two looks.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Units that Kafka has acknowledged whole.
    pub acknowledged: Vec<i64>,
    /// How long these took since they were sent, added up.
    pub waited: Duration,
    /// Records (unit, index) that Kafka refused for good, with the reason.
    pub refused: Vec<(i64, usize, String)>,
    /// The producer cannot go on; why.
    pub broken: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    outstanding: HashMap<i64, Outstanding>,
    bytes: usize,
    reports: Reports,
}

/// What Kafka has not acknowledged of one unit.
#[derive(Debug)]
struct Outstanding {
    records: usize,
    bytes: usize,
    sent: Instant,
}

#[derive(Clone, Debug)]
struct Reporter {
    counts: Arc<Mutex<Counts>>,
    changed: Arc<Notify>,
}

impl ClientContext for Reporter {}

impl ProducerContext for Reporter {
    /// Unit and index of the record, as [`opaque`] packs them.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (seq, index) = unpack(opaque);
        let mut counts = self.counts.lock();
        match result {
            Ok(_) => {
                let Some(left) = counts.outstanding.get_mut(&seq) else { return };
                left.records -= 1;
                if left.records > 0 {
                    return;
                }
                let (bytes, waited) = (left.bytes, left.sent.elapsed());
                counts.bytes -= bytes;
                counts.reports.waited += waited;
                counts.outstanding.remove(&seq);
                counts.reports.acknowledged.push(seq);
            }
            Err((error, message)) => {
                let reason =
                    format!("{error} (topic {}, partition {})", message.topic(), message.partition());
                if is_final(error) {
                    counts.reports.refused.push((seq, index, reason.clone()));
                }
                counts.reports.broken.get_or_insert(reason);
            }
        }
        drop(counts);
        self.changed.notify_one();
    }
}

/// Errors that sending again will not mend: somebody must change the record or the topic.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::PolicyViolation
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::UnknownPartition
                | Code::UnknownTopic
        )
    )
}

/// Sequence numbers below 2^47 and indexes below 2^16 share a word.
fn opaque(seq: i64, index: usize) -> usize {
    (usize::try_from(seq).unwrap_or(0) << 16) | (index & 0xffff)
}

fn unpack(opaque: usize) -> (i64, usize) {
    (i64::try_from(opaque >> 16).unwrap_or(0), opaque & 0xffff)
}

/// The one producer of a database's relay.
pub(super) struct Producer {
    client: Arc<BaseProducer<Reporter>>,
    counts: Arc<Mutex<Counts>>,
    ended: Arc<AtomicBool>,
}

impl Producer {
    /// Connects in the background; `changed` is notified when a unit is acknowledged or a record fails.
    ///
    /// # Errors
    /// When the operator's Kafka properties do not fit, or the system has no thread left.
    pub(super) fn new(brokers: &Brokers, changed: Arc<Notify>) -> anyhow::Result<Self> {
        let counts = Arc::<Mutex<Counts>>::default();
        let context = Reporter { counts: counts.clone(), changed };
        let client: BaseProducer<Reporter> = brokers
            .client(
                &[
                    ("linger.ms", "0"),
                    ("compression.type", "none"),
                    ("queue.buffering.max.messages", "500000"),
                    // The broker's limit decides; what it refuses is held.
                    ("message.max.bytes", "4000000"),
                ],
                &[
                    ("enable.idempotence", "true"),
                    ("enable.gapless.guarantee", "true"),
                    ("message.timeout.ms", "0"),
                    ("acks", "all"),
                ],
            )
            .create_with_context(context)
            .context("setting up the Kafka producer")?;
        let (client, ended) = (Arc::new(client), Arc::<AtomicBool>::default());
        let (reports, until) = (client.clone(), ended.clone());
        thread::Builder::new()
            .name("relay reports".to_owned())
            .spawn(move || {
                while !until.load(Ordering::Acquire) {
                    reports.poll(REPORT_WITHIN);
                }
            })
            .context("starting the thread of the Kafka producer")?;
        Ok(Self { client, counts, ended })
    }

    /// Hands a unit's records to the producer, but for those that `skip` names.
    ///
    /// # Errors
    /// When its queue is full, or it is broken: build a new one and send again from the lowest.
    pub(super) fn send(
        &self,
        seq: i64,
        records: &[Record],
        skip: impl Fn(usize) -> bool,
    ) -> Result<(), KafkaError> {
        let wanted: Vec<(usize, &Record)> =
            records.iter().enumerate().filter(|(index, _)| !skip(*index)).collect();
        let bytes = wanted.iter().map(|(_, record)| record.size()).sum();
        let unit = Outstanding { records: wanted.len(), bytes, sent: Instant::now() };
        {
            let mut counts = self.counts.lock();
            if wanted.is_empty() {
                counts.reports.acknowledged.push(seq);
                return Ok(());
            }
            counts.bytes += unit.bytes;
            counts.outstanding.insert(seq, unit);
        }
        for (index, record) in wanted {
            if let Err(error) = self.send_one(opaque(seq, index), record) {
                if is_final(&error) {
                    let reason = format!("{error} (topic {}, partition {})", record.topic, record.partition);
                    self.counts.lock().reports.refused.push((seq, index, reason));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn send_one(&self, opaque: usize, record: &Record) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(&**value) });
        }
        let mut message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, opaque)
            .partition(record.partition)
            .timestamp(record.timestamp_ms)
            .headers(headers);
        if let Some(key) = &record.key {
            message = message.key(&**key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(&**payload);
        }
        self.client.send(message).map_err(|(error, _)| error)
    }

    /// Records that Kafka has not acknowledged yet.
    pub(super) fn in_flight(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// Their size, roughly.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.counts.lock().bytes
    }

    /// What was reported since the last call.
    pub(super) fn reports(&self) -> Reports {
        std::mem::take(&mut self.counts.lock().reports)
    }
}

impl Drop for Producer {
    /// What is still queued is in the outbox; whoever leads sends it.
    fn drop(&mut self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.ended.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{opaque, unpack};

    #[test]
    fn a_word_holds_unit_and_index() {
        for (seq, index) in [(0, 0), (1, 4095), (1 << 46, 65_535)] {
            assert_eq!(unpack(opaque(seq, index)), (seq, index));
        }
    }
}
