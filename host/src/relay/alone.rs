//! Sends records one at a time: those of isolated partitions ([`super::isolated`]), and parked records that
//! are redriven ([`super::redrive`]).
//!
//! Each partition has at most one record under way, so Kafka judges each record alone, and a refusal cannot
//! let a later record pass an earlier one.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    client::{Answer, Client},
    refusal::{Refusal, reason_of},
};
use crate::{
    kafka::{Brokers, ClientLog},
    model::record::Record,
};

/// Kafka's answer to a record, with the reason.
pub(super) type Judged = Result<(), (Refusal, String)>;

/// The client that sends records alone. `T` says what a record is to its sender.
#[derive(Debug)]
pub(super) struct AloneSender<T> {
    brokers: Brokers,
    log: Arc<ClientLog>,
    client: Option<Client>,
    answers: Arc<Mutex<Vec<(usize, Answer)>>>,
    changed: Arc<Notify>,
    under_way: HashMap<usize, T>,
    next_word: usize,
}

impl<T> AloneSender<T> {
    /// Connects when the first record is sent. Notifies `changed` of answers.
    pub(super) fn new(brokers: Brokers, log: Arc<ClientLog>, changed: Arc<Notify>) -> Self {
        Self {
            brokers,
            log,
            client: None,
            answers: Arc::default(),
            changed,
            under_way: HashMap::new(),
            next_word: 0,
        }
    }

    /// Sends a record of an outbox row with this timestamp, or with its own. [`AloneSender::take_answers`]
    /// returns the answer with `what`.
    ///
    /// # Errors
    /// librdkafka refuses the operator's Kafka properties, or the system has no thread left.
    pub(super) fn send(
        &mut self,
        what: T,
        record: &Record,
        unit_and_index: (i64, usize),
        timestamp_ms: Option<i64>,
    ) -> anyhow::Result<()> {
        self.next_word += 1;
        let word = self.next_word;
        let timestamp_ms = timestamp_ms.unwrap_or(record.timestamp_ms);
        let sent = self.client()?.send(word, record, unit_and_index, timestamp_ms);
        self.under_way.insert(word, what);
        if let Err(error) = sent {
            let place = (record.topic.clone(), record.partition);
            self.answers.lock().push((word, Err((error, place))));
            self.changed.notify_one();
        }
        Ok(())
    }

    fn client(&mut self) -> anyhow::Result<&Client> {
        if self.client.is_none() {
            let (answers, changed) = (self.answers.clone(), self.changed.clone());
            let on_answer = move |word, answer| {
                answers.lock().push((word, answer));
                changed.notify_one();
            };
            // A refusal must not end the client. Nothing is behind the refused record in its partition.
            let properties = [("enable.gapless.guarantee", "false")];
            let client = Client::new(&self.brokers, &self.log, &properties, Box::new(on_answer))?;
            return Ok(self.client.insert(client));
        }
        self.client.as_ref().ok_or_else(|| anyhow::anyhow!("the Kafka client of the relay is gone"))
    }

    /// Kafka's answers since the last call. After a passing error the client is replaced: it may know less
    /// about the topic than the brokers do. All records that were under way get the answer `NotSent` then.
    pub(super) fn take_answers(&mut self) -> Vec<(T, Judged)> {
        let answers = std::mem::take(&mut *self.answers.lock());
        let mut replace = false;
        let mut judged = Vec::new();
        for (word, answer) in answers {
            let Some(what) = self.under_way.remove(&word) else { continue };
            let answer = answer.map(drop).map_err(|(error, _)| match Refusal::of(&error) {
                Refusal::NotSent => {
                    (Refusal::Passing, self.fatal_reason().unwrap_or_else(|| reason_of(&error)))
                }
                refusal => (refusal, reason_of(&error)),
            });
            replace |= matches!(answer, Err((Refusal::Passing, _)));
            judged.push((what, answer));
        }
        if replace {
            self.client = None;
            let not_sent = || Err((Refusal::NotSent, "the Kafka client was replaced".to_owned()));
            judged.extend(self.under_way.drain().map(|(_, what)| (what, not_sent())));
        }
        judged
    }

    fn fatal_reason(&self) -> Option<String> {
        self.client.as_ref()?.fatal_reason()
    }

    /// Disconnects when nothing is under way.
    pub(super) fn close_if_idle(&mut self) {
        if self.under_way.is_empty() {
            self.client = None;
        }
    }
}
