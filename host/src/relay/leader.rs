//! What the host that leads does: it sends what is committed, in order, and forgets what Kafka has
//! acknowledged.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use anyhow::Context;
use sqlx::{Postgres, pool::PoolConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    election::{Lease, RENEWAL},
    maintenance::Upkeep,
    order::Records,
    outbox,
    producer::Producer,
};
use crate::{fault_point, model::record::Record};

/// Records handed to the producer and not acknowledged, at the most.
const IN_FLIGHT_RECORDS_MAX: usize = 100_000;
/// Their size, roughly, at the most.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// How often acknowledged units are deleted from the outbox.
const CLEAR_EVERY: Duration = Duration::from_millis(50);
/// How often the outbox is looked at without a reason: a host may have died before it told of what it had
/// committed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Records (unit, place) that are held instead of being sent.
pub(super) type Refused = HashSet<(i64, usize)>;

/// One producer's life: from the lowest unacknowledged unit until something breaks.
pub(super) struct Leader<'a> {
    relay: &'a Relay,
    /// Its own, in use as long as it leads: given back to the pool after each statement it would be tested
    /// each time.
    database: PoolConnection<Postgres>,
    producer: Option<Producer>,
    acknowledged: Vec<i64>,
    /// By topic and key: the position of the first held record.
    held: HashMap<(String, String), i64>,
    refused: &'a mut Refused,
    upkeep: &'a mut Upkeep,
    looked_at: Instant,
    look_by: Instant,
    read: bool,
}

impl<'a> Leader<'a> {
    /// Connects to the database.
    ///
    /// # Errors
    /// No connection can be had.
    pub(super) async fn begin(
        relay: &'a Relay,
        refused: &'a mut Refused,
        upkeep: &'a mut Upkeep,
    ) -> anyhow::Result<Self> {
        let database = relay.database.admin.acquire().await.context("connecting the relay")?;
        Ok(Self {
            relay,
            database,
            producer: None,
            acknowledged: Vec::new(),
            held: HashMap::new(),
            refused,
            upkeep,
            looked_at: Instant::now(),
            look_by: Instant::now(),
            read: false,
        })
    }

    /// Until the lead is lost, or the host stops and everything is sent.
    ///
    /// # Errors
    /// Whatever needs a new producer or a new look at the outbox.
    pub(super) async fn publish(mut self, lease: &mut Lease, stop: &CancellationToken) -> anyhow::Result<()> {
        self.beside(lease.others);
        self.held = outbox::held(&mut self.database).await?;
        let mut renew_at = Instant::now() + RENEWAL;
        let mut clear_at = Instant::now() + CLEAR_EVERY;
        while lease.holds() {
            let now = Instant::now();
            if now >= renew_at {
                if !lease.renew(&mut *self.database, &self.relay.owner).await? {
                    return Ok(());
                }
                renew_at = now + RENEWAL;
                self.beside(lease.others);
                if !self.held.is_empty() {
                    self.held = outbox::held(&mut self.database).await?;
                }
                self.upkeep.look_after(&self.relay.database).await;
            }
            self.collect_reports().await?;
            if now >= clear_at {
                self.clear().await?;
                clear_at = now + CLEAR_EVERY;
            }
            if self.look_at() <= Instant::now() {
                self.look().await?;
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
                () = tokio::time::sleep_until(renew_at.min(self.look_at()).min(clearing)) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
        Ok(())
    }

    fn beside(&self, others: bool) {
        self.relay.order.lock().set_alone(!others);
        self.relay.neighbours.set_present(others);
    }

    /// When to look into the outbox. Beside other hosts every unit asks for it: the looks are paced then.
    fn look_at(&self) -> Instant {
        let neighbours = &self.relay.neighbours;
        if !neighbours.heard_of_commits() && !self.relay.order.lock().wants_snapshot() {
            return self.look_by;
        }
        if neighbours.present() {
            self.look_by.min(self.looked_at + neighbours.rest())
        } else {
            self.looked_at
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        self.relay.neighbours.look();
        let (begun_at, in_flight) = {
            let mut order = self.relay.order.lock();
            (order.begin_snapshot(), order.in_flight_seqs())
        };
        let rows = outbox::unpublished(&mut self.database, &in_flight).await?;
        let complete = i64::try_from(rows.len()).is_ok_and(|count| count < outbox::SNAPSHOT_ROWS_MAX);
        for row in &rows {
            self.refused.extend(row.held.iter().map(|index| (row.seq, *index)));
        }
        let rows = rows.into_iter().map(|row| (row.seq, row.records)).collect();
        self.relay.order.lock().snapshot(begun_at, rows, complete);
        self.read = true;
        self.looked_at = Instant::now();
        self.look_by = self.looked_at + LOOK_EVERY;
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
            let skip: Vec<usize> =
                (0..records.len()).filter(|index| self.refused.contains(&(seq, *index))).collect();
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
            let is_behind =
                |(index, record): &(usize, &Record)| is_behind(held, outbox::position(seq, *index), record);
            records.iter().enumerate().filter(is_behind).map(|(index, _)| index).collect()
        };
        if self.held.is_empty() || behind(&self.held).is_empty() {
            return Ok(());
        }
        // What a person sends again is committed together with the end of its being held.
        self.held = outbox::held(&mut self.database).await?;
        for index in behind(&self.held) {
            let reason = "an earlier record of its key is held";
            outbox::hold(&mut self.database, seq, index, &records[index], reason).await?;
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
        self.relay.waits.acknowledged(&reports.acknowledged, reports.waited);
        self.acknowledged.extend(reports.acknowledged);
        for (seq, index, reason) in &reports.refused {
            let records = self.relay.order.lock().in_flight_records(*seq);
            if let Some(record) = records.as_ref().and_then(|records| records.get(*index)) {
                tracing::error!(
                    database = self.relay.database.name,
                    topic = record.topic,
                    "Kafka refuses a record: {reason}; it is held"
                );
                outbox::hold(&mut self.database, *seq, *index, record, reason).await?;
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
        outbox::forget(&mut self.database, &self.acknowledged).await?;
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
