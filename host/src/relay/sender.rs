//! Sends records to Kafka with an idempotent client, in order and without gaps, and collects its answers.

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

/// How long one poll for delivery reports blocks. The poll thread of `ThreadedProducer` uses 100 ms and
/// busy-waits for the last of them, so this module has its own poll thread.
const REPORT_POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Records in the queue of the Kafka client, at most. Above the limit of the publisher: it never fills.
const CLIENT_QUEUE_RECORDS_MAX: &str = "500000";
/// Size of one record, at most. Above the usual limit of a broker, which decides: what it refuses is parked.
const RECORD_BYTES_MAX: &str = "4000000";

/// The answers of Kafka since the last call of [`Sender::take_reports`].
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Units of which Kafka has acknowledged every record.
    pub acknowledged: Vec<i64>,
    /// The time from sending to acknowledgement, added up over `acknowledged`.
    pub total_wait: Duration,
    /// Records (unit, index) that Kafka refuses whenever they are sent, with the reason.
    pub refused: Vec<(i64, usize, String)>,
    /// Why the client cannot continue.
    pub broken: Option<String>,
}

#[derive(Debug, Default)]
struct SendState {
    in_flight: HashMap<i64, UnitInFlight>,
    in_flight_bytes: usize,
    reports: Reports,
}

/// What Kafka has not acknowledged of one unit.
#[derive(Debug)]
struct UnitInFlight {
    records: usize,
    bytes: usize,
    sent_at: Instant,
}

/// Receives the delivery reports of the Kafka client.
#[derive(Clone, Debug)]
struct DeliveryReporter {
    state: Arc<Mutex<SendState>>,
    changed: Arc<Notify>,
}

impl ClientContext for DeliveryReporter {}

impl ProducerContext for DeliveryReporter {
    /// Unit and index of the record, as [`opaque`] packs them.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (seq, index) = unpack(opaque);
        let mut state = self.state.lock();
        match result {
            Ok(_) => {
                let Some(unit) = state.in_flight.get_mut(&seq) else { return };
                unit.records -= 1;
                if unit.records > 0 {
                    return;
                }
                let (bytes, wait) = (unit.bytes, unit.sent_at.elapsed());
                state.in_flight_bytes -= bytes;
                state.reports.total_wait += wait;
                state.in_flight.remove(&seq);
                state.reports.acknowledged.push(seq);
            }
            Err((error, message)) => {
                let reason =
                    format!("{error} (topic {}, partition {})", message.topic(), message.partition());
                if is_permanent(error) {
                    state.reports.refused.push((seq, index, reason.clone()));
                }
                state.reports.broken.get_or_insert(reason);
            }
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// Whether a retry cannot help: a person must change the record, the topic or its access rights.
fn is_permanent(error: &KafkaError) -> bool {
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

/// Packs a unit (below 2^47) and the index of a record (below 2^16) into the word that librdkafka returns
/// with the delivery report.
fn opaque(seq: i64, index: usize) -> usize {
    (usize::try_from(seq).unwrap_or(0) << 16) | (index & 0xffff)
}

fn unpack(opaque: usize) -> (i64, usize) {
    (i64::try_from(opaque >> 16).unwrap_or(0), opaque & 0xffff)
}

/// The Kafka client of a database's relay.
pub(super) struct Sender {
    client: Arc<BaseProducer<DeliveryReporter>>,
    state: Arc<Mutex<SendState>>,
    stopped: Arc<AtomicBool>,
}

impl Sender {
    /// Connects in the background. Notifies `changed` when a unit is acknowledged or a record fails.
    ///
    /// # Errors
    /// librdkafka refuses the operator's Kafka properties, or the system has no thread left.
    pub(super) fn new(brokers: &Brokers, changed: Arc<Notify>) -> anyhow::Result<Self> {
        let state = Arc::<Mutex<SendState>>::default();
        let context = DeliveryReporter { state: state.clone(), changed };
        let client: BaseProducer<DeliveryReporter> = brokers
            .client(
                &[
                    ("linger.ms", "0"),
                    ("compression.type", "none"),
                    ("queue.buffering.max.messages", CLIENT_QUEUE_RECORDS_MAX),
                    ("message.max.bytes", RECORD_BYTES_MAX),
                ],
                &[
                    ("enable.idempotence", "true"),
                    ("enable.gapless.guarantee", "true"),
                    ("message.timeout.ms", "0"),
                    ("acks", "all"),
                ],
            )
            .create_with_context(context)
            .context("creating the Kafka client of the relay, check kafka_properties")?;
        let (client, stopped) = (Arc::new(client), Arc::<AtomicBool>::default());
        let (polled, until) = (client.clone(), stopped.clone());
        thread::Builder::new()
            .name("relay-reports".to_owned())
            .spawn(move || {
                while !until.load(Ordering::Acquire) {
                    polled.poll(REPORT_POLL_TIMEOUT);
                }
            })
            .context("starting the thread that polls the Kafka client of the relay")?;
        Ok(Self { client, state, stopped })
    }

    /// Passes a unit's records to the Kafka client, except those whose index `skip` selects.
    ///
    /// # Errors
    /// The client's queue is full, or the client is broken: create a new one and send again from the lowest
    /// unit.
    pub(super) fn send(
        &self,
        seq: i64,
        records: &[Record],
        skip: impl Fn(usize) -> bool,
    ) -> Result<(), KafkaError> {
        let wanted: Vec<(usize, &Record)> =
            records.iter().enumerate().filter(|(index, _)| !skip(*index)).collect();
        let bytes = wanted.iter().map(|(_, record)| record.size()).sum();
        let unit = UnitInFlight { records: wanted.len(), bytes, sent_at: Instant::now() };
        {
            let mut state = self.state.lock();
            if wanted.is_empty() {
                state.reports.acknowledged.push(seq);
                return Ok(());
            }
            state.in_flight_bytes += unit.bytes;
            state.in_flight.insert(seq, unit);
        }
        for (index, record) in wanted {
            if let Err(error) = self.send_one(opaque(seq, index), record) {
                if is_permanent(&error) {
                    let reason = format!("{error} (topic {}, partition {})", record.topic, record.partition);
                    self.state.lock().reports.refused.push((seq, index, reason));
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

    /// The number of records that Kafka has not acknowledged.
    pub(super) fn in_flight(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// Their approximate size.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.state.lock().in_flight_bytes
    }

    /// Kafka's answers since the last call.
    pub(super) fn take_reports(&self) -> Reports {
        std::mem::take(&mut self.state.lock().reports)
    }
}

impl Drop for Sender {
    /// Discards what is still queued: it is in the outbox, and the next leader sends it.
    fn drop(&mut self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
        self.stopped.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{opaque, unpack};

    #[test]
    fn unit_and_index_survive_packing() {
        for (seq, index) in [(0, 0), (1, 4095), (1 << 46, 65_535)] {
            assert_eq!(unpack(opaque(seq, index)), (seq, index));
        }
    }
}
