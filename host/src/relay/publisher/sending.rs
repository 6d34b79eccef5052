//! What the leader sends: ready units in batches, and records alone.

use std::{sync::atomic::Ordering, time::Instant};

use super::Publisher;
use crate::{
    fault_point,
    model::record::Record,
    relay::{
        election::LeaderLease,
        in_flight::{position, unit_and_index},
        isolated::Alone,
        leader::{LeaderState, SentAlone},
        order::{Records, bytes_of},
        outbox,
        refusal::Refusal,
    },
};

impl Publisher<'_> {
    /// Sends what can be sent: in batches, and alone.
    pub(super) async fn send(&mut self, lease: &LeaderLease) -> anyhow::Result<()> {
        self.state.replace_broken_client(self.relay).await;
        if self.state.client_at().is_none() {
            if self.relay.publishes.load(Ordering::Acquire) {
                self.state.sender(self.relay)?;
            }
            if self.state.must_resend && lease.is_valid() {
                self.resend().await?;
            }
            if !self.state.must_resend {
                self.send_ready(lease).await?;
                self.release_isolated().await?;
            }
        }
        if lease.is_valid() {
            self.send_isolated().await?;
            self.send_redriven().await?;
        }
        Ok(())
    }

    /// Sends what is missing of the units in flight, with a new client.
    async fn resend(&mut self) -> anyhow::Result<()> {
        self.collect_answers().await?;
        self.delete_acknowledged().await?;
        let units = self.relay.order.lock().in_flight_units();
        for (seq, records) in units {
            self.dispatch(seq, &records).await?;
        }
        self.state.must_resend = false;
        Ok(())
    }

    /// Sends units until none is ready, the limits are reached, the client has given up, or the lease has
    /// expired.
    async fn send_ready(&mut self, lease: &LeaderLease) -> anyhow::Result<()> {
        while !self.state.is_full() && self.state.in_flight.lock().broken().is_none() && lease.is_valid() {
            let Some((seq, records)) = self.relay.order.lock().take_next() else { return Ok(()) };
            fault_point::reach("after-commit-before-publish");
            self.dispatch(seq, &records).await?;
            self.relay.latency.sent(seq);
            self.relay.published.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends the missing records of a unit. Stops when the batching client has given up: the next one
    /// continues.
    async fn dispatch(&mut self, seq: i64, records: &Records) -> anyhow::Result<()> {
        let size = (records.len(), bytes_of(records));
        let missing = {
            let parked = &self.state.parked;
            self.state.in_flight.lock().begin(seq, size, |index| parked.is_skipped(seq, index))
        };
        let is_missing =
            |index: usize| missing.as_ref().is_none_or(|missing| missing.binary_search(&index).is_ok());
        for (index, record) in records.iter().enumerate() {
            if is_missing(index)
                && !self.state.parked.is_skipped(seq, index)
                && !self.send_record((seq, index), record).await?
            {
                break;
            }
        }
        Ok(())
    }

    /// Sends the records that waited in partitions whose suspects are judged.
    async fn release_isolated(&mut self) -> anyhow::Result<()> {
        for (_, positions) in self.state.isolated.release(Instant::now()) {
            for position in positions {
                let Some(record) = self.record(position) else { continue };
                if !self.send_record(unit_and_index(position), &record).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Sends one record in a batch, adds it to an isolated partition, or parks it behind an earlier one. False
    /// when the batching client has given up.
    async fn send_record(&mut self, (seq, index): (i64, usize), record: &Record) -> anyhow::Result<bool> {
        if self.state.parked.has_keys() {
            let behind = self.state.parked.park_one_behind(&mut self.database, (seq, index), record).await;
            match behind {
                Ok(false) => {}
                Ok(true) => {
                    self.complete(position(seq, index));
                    return Ok(true);
                }
                Err(error) => {
                    // Some records of the unit are sent and some are not: the next client sends the others.
                    self.state.in_flight.lock().give_up("Postgres has failed");
                    return Err(error);
                }
            }
        }
        self.state.send(self.relay, (seq, index), record)
    }

    /// A record is not sent: it is parked.
    pub(super) fn complete(&self, position: i64) {
        let (seq, index) = unit_and_index(position);
        self.state.in_flight.lock().complete(seq, index);
    }

    /// Sends the next record of each isolated partition.
    async fn send_isolated(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for alone in self.state.isolated.take_due(Instant::now()) {
            if let Err(error) = self.send_alone(&alone).await {
                let not_sent = Err((Refusal::NotSent, String::new()));
                self.state.isolated.answered(&alone.place, not_sent, Instant::now());
                result = Err(error);
            }
        }
        result
    }

    async fn send_alone(&mut self, alone: &Alone) -> anyhow::Result<()> {
        let Some(record) = self.record(alone.position) else {
            self.state.isolated.remove(&alone.place, alone.position);
            return Ok(());
        };
        let unit_and_index = unit_and_index(alone.position);
        if self.state.parked.park_one_behind(&mut self.database, unit_and_index, &record).await? {
            self.state.isolated.remove(&alone.place, alone.position);
            self.complete(alone.position);
            return Ok(());
        }
        let timestamp_ms = self.present_time(alone.with_present_time).await?;
        self.relay.hand_over.interrupt(&record);
        let what = SentAlone::Isolated(alone.place.clone());
        self.state.alone.send(what, &record, unit_and_index, timestamp_ms)
    }

    async fn present_time(&mut self, wanted: bool) -> anyhow::Result<Option<i64>> {
        if wanted { outbox::present_time_ms(&mut self.database).await.map(Some) } else { Ok(None) }
    }

    /// Sends the next parked record that is due.
    async fn send_redriven(&mut self) -> anyhow::Result<()> {
        let LeaderState { redrive, parked, .. } = &mut *self.state;
        let next = redrive.next(&mut self.database, self.identity, parked).await?;
        let Some(next) = next else { return Ok(()) };
        let sent = match self.present_time(next.with_present_time).await {
            Ok(timestamp_ms) => {
                // Later records of the key must not overtake it.
                self.relay.hand_over.interrupt(&next.record);
                let (alone, place) = (&mut self.state.alone, unit_and_index(next.position));
                alone.send(SentAlone::Redriven, &next.record, place, timestamp_ms)
            }
            Err(error) => Err(error),
        };
        if sent.is_err() {
            self.state.redriven = Some(Err((Refusal::NotSent, String::new())));
        }
        sent
    }
}
