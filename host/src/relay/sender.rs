//! Sends units in batches with an idempotent client, in order and without gaps.
//!
//! When Kafka refuses a batch, the client gives up: it sends nothing that comes after the batch. It is
//! replaced, and the partition is isolated ([`super::isolated`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use tokio::sync::Notify;

use super::{
    client::{Answer, Client},
    hand_over::HandOver,
    in_flight::{FailedPlace, InFlight, Place, position, unit_and_index},
    refusal::{Refusal, is_too_large, reason_of},
};
use crate::{
    kafka::{Brokers, ClientLog},
    model::record::Record,
};

/// How long a client that is replaced may take for the answers to what it has sent. What is unanswered then
/// is sent again, and readers drop the repeats.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const LAST_ANSWERS_POLL: Duration = Duration::from_millis(10);

/// The batching client of a database's relay.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    in_flight: Arc<Mutex<InFlight>>,
    /// Until the client is replaced. Later errors are about what it discards.
    live: Arc<AtomicBool>,
}

impl Sender {
    /// Connects in the background. The answers go to `in_flight`, and `changed` is notified. A batch of
    /// several records has at most `batch_bytes_max` bytes; without it, as the Kafka properties say.
    ///
    /// # Errors
    /// librdkafka refuses the operator's Kafka properties, or the system has no thread left.
    pub(super) fn new(
        brokers: &Brokers,
        log: &Arc<ClientLog>,
        batch_bytes_max: Option<usize>,
        in_flight: Arc<Mutex<InFlight>>,
        hand_over: Arc<HandOver>,
        changed: Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let live = Arc::new(AtomicBool::new(true));
        let (answers, is_live) = (in_flight.clone(), live.clone());
        let on_answer = move |opaque: usize, answer: Answer| {
            let (seq, index) = unit_and_index(i64::try_from(opaque).unwrap_or(0));
            let wakes = match answer {
                // One record of many changes nothing for the publisher.
                Ok(offset) => {
                    hand_over.acknowledged(position(seq, index), offset);
                    answers.lock().acknowledge(seq, index)
                }
                Err((error, place)) if is_live.load(Ordering::Acquire) => {
                    fail(&answers, place, &error, position(seq, index));
                    true
                }
                Err(_) => false,
            };
            if wakes {
                changed.notify_one();
            }
        };
        let batch = batch_bytes_max.map(|bytes| bytes.to_string());
        let mut properties = vec![("enable.gapless.guarantee", "true")];
        properties.extend(batch.as_deref().map(|bytes| ("batch.size", bytes)));
        let client = Client::new(brokers, log, &properties, Box::new(on_answer))?;
        Ok(Self { client, in_flight, live })
    }

    /// Passes one record of a unit to the Kafka client. False when the client must be replaced.
    pub(super) fn send(&self, seq: i64, index: usize, record: &Record) -> bool {
        let opaque = usize::try_from(position(seq, index)).unwrap_or(0);
        let Err(error) = self.client.send(opaque, record, (seq, index), record.timestamp_ms) else {
            return true;
        };
        let place = (record.topic.clone(), record.partition);
        fail(&self.in_flight, place, &error, position(seq, index));
        false
    }

    /// Why the client has given up, if it has.
    pub(super) fn fatal_reason(&self) -> Option<String> {
        self.client.fatal_reason()
    }

    /// Waits until the client has answered to everything, at most [`LAST_ANSWERS_WITHIN`].
    pub(super) async fn last_answers(&self) {
        let began = Instant::now();
        while self.client.unanswered() > 0 && began.elapsed() < LAST_ANSWERS_WITHIN {
            tokio::time::sleep(LAST_ANSWERS_POLL).await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.live.store(false, Ordering::Release);
    }
}

fn fail(in_flight: &Mutex<InFlight>, place: Place, error: &KafkaError, position: i64) {
    let reason = reason_of(error);
    match Refusal::of(error) {
        Refusal::NotSent => in_flight.lock().give_up(&reason),
        refusal => {
            let (passing, too_large) = (refusal == Refusal::Passing, is_too_large(error));
            in_flight.lock().fail(place, FailedPlace { reason, passing, too_large, last: position });
        }
    }
}
