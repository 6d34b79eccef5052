//! What the leader keeps while it leads, also when its Postgres connection or a Kafka client is replaced.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Relay,
    alone::{AloneSender, Judged},
    batch_size::{self, BATCH_BYTES_MAX},
    in_flight::{InFlight, Place, position},
    isolated::Isolated,
    maintenance::Maintenance,
    parked_records::ParkedRecords,
    redrive::Redrive,
    sender::Sender,
    trouble::Trouble,
};
use crate::{
    kafka::ClientLog,
    model::{identity::Identity, record::Record},
};

/// Records that Kafka has not acknowledged, at most.
const IN_FLIGHT_RECORDS_MAX: usize = 100_000;
/// Their approximate size, at most. The Kafka client has a copy. A single unit may exceed it.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// Pause before a Kafka client is replaced that has failed without a refusal; doubled while that repeats.
const CLIENT_PAUSE_MIN: Duration = Duration::from_millis(200);
const CLIENT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A client that has worked for longer is replaced after the shortest pause again.
const CLIENT_WORKED_FOR: Duration = Duration::from_secs(60);

/// What a record that is sent alone is to the leader.
#[derive(Debug)]
pub(super) enum SentAlone {
    Isolated(Place),
    Redriven,
}

/// The leader's state.
#[derive(Debug)]
pub(super) struct LeaderState {
    /// Of the database at the first connection.
    pub(super) identity: Option<Identity>,
    pub(super) in_flight: Arc<Mutex<InFlight>>,
    sender: Option<Sender>,
    pub(super) log: Arc<ClientLog>,
    pub(super) alone: AloneSender<SentAlone>,
    pub(super) isolated: Isolated,
    pub(super) redrive: Redrive,
    /// Kafka's answer to a redriven record.
    pub(super) redriven: Option<Judged>,
    pub(super) parked: ParkedRecords,
    /// Refused records that are not yet in the database: position and reason.
    pub(super) to_park: VecDeque<(i64, String)>,
    /// Units to be deleted from the outbox.
    pub(super) acknowledged: Vec<i64>,
    pub(super) maintenance: Maintenance,
    /// Since a topic has refused a batch as too large.
    batch_bytes_max: Option<usize>,
    /// Whether a new client has to send the units in flight.
    pub(super) must_resend: bool,
    client_pause: Duration,
    client_at: Instant,
    client_since: Instant,
}

impl LeaderState {
    pub(super) fn new(relay: &Relay) -> Self {
        let log = Arc::new(ClientLog::new(format!("relay of {}", relay.database.name)));
        Self {
            identity: None,
            in_flight: Arc::default(),
            sender: None,
            alone: AloneSender::new(relay.brokers.clone(), log.clone(), relay.changed.clone()),
            log,
            isolated: Isolated::default(),
            redrive: Redrive::default(),
            redriven: None,
            parked: ParkedRecords::default(),
            to_park: VecDeque::new(),
            acknowledged: Vec::new(),
            maintenance: Maintenance::default(),
            batch_bytes_max: None,
            must_resend: false,
            client_pause: CLIENT_PAUSE_MIN,
            client_at: Instant::now(),
            client_since: Instant::now(),
        }
    }

    /// Whether no more records may be passed to the Kafka client now.
    pub(super) fn is_full(&self) -> bool {
        let in_flight = self.in_flight.lock();
        in_flight.records() >= IN_FLIGHT_RECORDS_MAX || in_flight.bytes() >= IN_FLIGHT_BYTES_MAX
    }

    /// When a new Kafka client may be created, if that is later than now.
    pub(super) fn client_at(&self) -> Option<Instant> {
        (self.sender.is_none() && self.client_at > Instant::now()).then_some(self.client_at)
    }

    /// The batching client, connected when it is first needed.
    pub(super) fn sender(&mut self, relay: &Relay) -> anyhow::Result<&Sender> {
        match &mut self.sender {
            Some(sender) => Ok(sender),
            none => {
                let in_flight = self.in_flight.clone();
                let (log, changed) = (&self.log, relay.changed.clone());
                let hand_over = relay.hand_over.clone();
                let sender =
                    Sender::new(&relay.brokers, log, self.batch_bytes_max, in_flight, hand_over, changed)?;
                self.client_since = Instant::now();
                Ok(none.insert(sender))
            }
        }
    }

    /// Sends one record, or adds it to an isolated partition. False when the client has given up.
    pub(super) fn send(
        &mut self,
        relay: &Relay,
        (seq, index): (i64, usize),
        record: &Record,
    ) -> anyhow::Result<bool> {
        let position = position(seq, index);
        if self.isolated.push(&record.topic, record.partition, position) {
            relay.hand_over.interrupt(record);
            return Ok(true);
        }
        let sender = self.sender(relay)?;
        relay.hand_over.sent(record, (seq, index), position);
        Ok(sender.send(seq, index, record))
    }

    /// Ends the batching client when it has given up, and isolates the partitions that have refused a batch.
    pub(super) async fn replace_broken_client(&mut self, relay: &Relay) {
        let Some(broken) = self.in_flight.lock().broken().map(str::to_owned) else { return };
        // The next client sends again what this one may not have sent.
        relay.hand_over.restart();
        let mut reason = broken;
        if let Some(sender) = self.sender.take() {
            reason = sender.fatal_reason().unwrap_or(reason);
            sender.last_answers().await;
        }
        let failed = self.in_flight.lock().take_failed();
        let worked = self.client_since.elapsed() > CLIENT_WORKED_FOR;
        self.client_pause =
            if worked { CLIENT_PAUSE_MIN } else { (self.client_pause * 2).min(CLIENT_PAUSE_MAX) };
        // A refusal is dealt with by holding the partition, so the others need not wait.
        let pause = if failed.is_empty() { self.client_pause } else { CLIENT_PAUSE_MIN };
        if failed.is_empty() {
            let database = &relay.database.name;
            tracing::warn!(database, reason, "the relay's Kafka client has failed, replacing it");
        }
        for (place, failed) in failed {
            let (topic, partition) = &place;
            let reason = &failed.reason;
            tracing::debug!(topic, partition, reason, "Kafka refuses a batch: its records are sent alone");
            if failed.too_large {
                let current = self.batch_bytes_max.unwrap_or(BATCH_BYTES_MAX);
                self.batch_bytes_max = Some(batch_size::after_refusal(&relay.brokers, topic, current).await);
            }
            let passing = failed.passing.then_some(failed.reason);
            self.isolated.isolate(place, failed.last, passing, Instant::now());
        }
        self.client_at = Instant::now() + pause;
        self.must_resend = true;
    }

    /// What waits, and why. `stalled` is the first record that waits for a connection.
    pub(super) fn troubles(&self, stalled: Option<(Place, Instant)>) -> Vec<Trouble> {
        let isolated = self
            .isolated
            .waiting()
            .into_iter()
            .map(|isolated| (isolated.place, isolated.reason, isolated.since));
        let refused = isolated.chain(self.redrive.waiting());
        let mut troubles: Vec<Trouble> =
            refused.map(|(place, reason, since)| Trouble { place, reason, since, logged: false }).collect();
        if let Some((place, since)) = stalled.filter(|_| troubles.is_empty()) {
            let trouble = self.log.trouble();
            let logged = trouble.is_some();
            let reason = trouble.unwrap_or_else(|| "Kafka acknowledges nothing".to_owned());
            troubles.push(Trouble { place, reason, since, logged });
        }
        troubles
    }

    /// When there is something to do without an answer of Kafka.
    pub(super) fn next_at(&self) -> Option<Instant> {
        // Isolated partitions are released only to a client.
        let isolated = self.client_at().or_else(|| self.isolated.next_at());
        [isolated, self.redrive.next_at(&self.parked)].into_iter().flatten().min()
    }
}
