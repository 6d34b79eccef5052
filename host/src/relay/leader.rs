//! What the host that leads does: it sends what is committed, in order, and forgets what Kafka has acknowledged.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use anyhow::Context;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    ear::Ear,
    lease::{Lease, RENEWAL},
    order::Records,
    outbox,
    producer::Producer,
    record::Record,
    upkeep::Upkeep,
};
use crate::fault_point;

/// Records handed to the producer and not acknowledged, at the most.
const IN_FLIGHT_RECORDS_MAX: usize = 100_000;
/// Their size, roughly, at the most.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// How often acknowledged units are deleted from the outbox.
const CLEAR_EVERY: Duration = Duration::from_millis(50);
/// How often the outbox is looked at without a reason: a host may have died before it told of what it had committed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Records (unit, place) that are held instead of being sent.
pub(super) type Refused = HashSet<(i64, usize)>;

/// One producer's life: from the lowest unacknowledged unit until something breaks.
pub(super) struct Leader<'a> {
    relay: &'a Relay,
    producer: Option<Producer>,
    acknowledged: Vec<i64>,
    /// By topic and key: the position of the first held record.
    held: HashMap<(String, String), i64>,
    refused: &'a mut Refused,
    upkeep: &'a mut Upkeep,
    /// While other hosts are there.
    ear: Option<Ear>,
    read: bool,
}

impl<'a> Leader<'a> {
    pub(super) fn new(relay: &'a Relay, refused: &'a mut Refused, upkeep: &'a mut Upkeep) -> Self {
        Self {
            relay,
            producer: None,
            acknowledged: Vec::new(),
            held: HashMap::new(),
            refused,
            upkeep,
            ear: None,
            read: false,
        }
    }

    /// Until the lead is lost, or the host stops and everything is sent.
    ///
    /// # Errors
    /// Whatever needs a new producer or a new look at the outbox.
    pub(super) async fn publish(mut self, lease: &mut Lease, stop: &CancellationToken) -> anyhow::Result<()> {
        self.beside(lease.others);
        self.held = outbox::held(&self.relay.database.admin).await?;
        let mut renew_at = Instant::now() + RENEWAL;
        let mut look_at = Instant::now();
        let mut clear_at = Instant::now() + CLEAR_EVERY;
        while lease.holds() {
            let now = Instant::now();
            if now >= renew_at {
                if !lease.renew(&self.relay.database.admin, &self.relay.owner).await? {
                    return Ok(());
                }
                renew_at = now + RENEWAL;
                self.beside(lease.others);
                if !self.held.is_empty() {
                    self.held = outbox::held(&self.relay.database.admin).await?;
                }
                self.upkeep.look_after(&self.relay.database).await;
            }
            self.collect_reports().await?;
            if now >= clear_at {
                self.clear().await?;
                clear_at = now + CLEAR_EVERY;
            }
            let told = self.ear.as_ref().is_some_and(Ear::heard);
            if told || now >= look_at || self.relay.order.lock().wants_snapshot() {
                self.snapshot().await?;
                look_at = now + LOOK_EVERY;
            }
            if self.relay.publishes.load(Ordering::Acquire) {
                self.producer()?;
            }
            self.send(lease).await?;
            if stop.is_cancelled() {
                self.clear().await?;
                if self.read && self.relay.is_idle() {
                    return Ok(());
                }
            }
            let clearing = if self.acknowledged.is_empty() { renew_at } else { clear_at };
            tokio::select! {
                () = self.relay.changed.notified() => {}
                () = tokio::time::sleep_until(renew_at.min(look_at).min(clearing)) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
        Ok(())
    }

    fn beside(&mut self, others: bool) {
        self.relay.order.lock().set_alone(!others);
        if !others {
            self.ear = None;
        } else if self.ear.is_none() {
            self.ear = Some(Ear::open(&self.relay.database.admin, &self.relay.changed));
        }
    }

    async fn snapshot(&mut self) -> anyhow::Result<()> {
        let (begun_at, in_flight) = {
            let mut order = self.relay.order.lock();
            (order.begin_snapshot(), order.in_flight_seqs())
        };
        let rows = outbox::unpublished(&self.relay.database.admin, &in_flight).await?;
        let complete = i64::try_from(rows.len()).is_ok_and(|count| count < outbox::SNAPSHOT_ROWS_MAX);
        for row in &rows {
            self.refused.extend(row.held.iter().map(|index| (row.seq, *index)));
        }
        let rows = rows.into_iter().map(|row| (row.seq, row.records)).collect();
        self.relay.order.lock().snapshot(begun_at, rows, complete);
        self.read = true;
        Ok(())
    }

    async fn send(&mut self, lease: &Lease) -> anyhow::Result<()> {
        loop {
            if self.is_full() || !lease.holds() {
                return Ok(());
            }
            let Some((seq, records)) = self.relay.order.lock().take_next() else { return Ok(()) };
            fault_point::reach("after-commit-before-publish");
            self.queue_behind_held(seq, &records).await?;
            let skip: Vec<usize> = (0..records.len()).filter(|index| self.refused.contains(&(seq, *index))).collect();
            if let Err(error) = self.producer()?.send(seq, &records, |index| skip.contains(&index)) {
                self.collect_reports().await?;
                return Err(error).context("handing records to the Kafka producer");
            }
            self.relay.waits.handed_over(seq);
            self.relay.published.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
    }

    fn producer(&mut self) -> anyhow::Result<&Producer> {
        match &mut self.producer {
            Some(producer) => Ok(producer),
            none => Ok(none.insert(Producer::new(&self.relay.brokers, self.relay.changed.clone())?)),
        }
    }

    fn is_full(&self) -> bool {
        self.producer.as_ref().is_some_and(|producer| {
            producer.in_flight() >= IN_FLIGHT_RECORDS_MAX || producer.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
        })
    }

    /// A record whose key has a held one before it is held too.
    async fn queue_behind_held(&mut self, seq: i64, records: &Records) -> anyhow::Result<()> {
        let behind = |held: &HashMap<(String, String), i64>| -> Vec<usize> {
            let is_behind = |(index, record): &(usize, &Record)| is_behind(held, outbox::position(seq, *index), record);
            records.iter().enumerate().filter(is_behind).map(|(index, _)| index).collect()
        };
        if self.held.is_empty() || behind(&self.held).is_empty() {
            return Ok(());
        }
        // What a person sends again is committed together with the end of its being held.
        self.held = outbox::held(&self.relay.database.admin).await?;
        for index in behind(&self.held) {
            let reason = "an earlier record of its key is held";
            outbox::hold(&self.relay.database.admin, seq, index, &records[index], reason).await?;
            self.refused.insert((seq, index));
        }
        Ok(())
    }

    async fn collect_reports(&mut self) -> anyhow::Result<()> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let reports = producer.reports();
        if !reports.acknowledged.is_empty() {
            fault_point::reach("after-publish-before-clear");
        }
        self.relay.waits.acknowledged(reports.acknowledged.len(), reports.waited);
        self.acknowledged.extend(reports.acknowledged);
        for (seq, index, reason) in &reports.refused {
            let records = self.relay.order.lock().in_flight_records(*seq);
            if let Some(record) = records.as_ref().and_then(|records| records.get(*index)) {
                tracing::error!(
                    database = self.relay.database.name,
                    topic = record.topic,
                    "Kafka refuses a record: {reason}; it is held"
                );
                outbox::hold(&self.relay.database.admin, *seq, *index, record, reason).await?;
                self.refused.insert((*seq, *index));
            }
        }
        match reports.broken {
            Some(reason) => {
                self.clear().await?;
                Err(anyhow::anyhow!("Kafka: {reason}"))
            }
            None => Ok(()),
        }
    }

    async fn clear(&mut self) -> anyhow::Result<()> {
        if self.acknowledged.is_empty() {
            return Ok(());
        }
        outbox::forget(&self.relay.database.admin, &self.acknowledged).await?;
        if !self.refused.is_empty() {
            self.refused.retain(|(seq, _)| !self.acknowledged.contains(seq));
        }
        let mut order = self.relay.order.lock();
        self.acknowledged.drain(..).for_each(|seq| order.cleared(seq));
        Ok(())
    }
}

fn is_behind(held: &HashMap<(String, String), i64>, position: i64, record: &Record) -> bool {
    let name = |key| (record.topic.clone(), String::from_utf8_lossy(key).into_owned());
    record.key.as_deref().and_then(|key| held.get(&name(key))).is_some_and(|first| *first < position)
}
