//! The leader's loop: sends committed units to Kafka in order and deletes from the outbox what Kafka has
//! acknowledged.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Context;
use sqlx::{Postgres, pool::PoolConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    election::{LEASE_RENEWAL_INTERVAL, LeaderLease},
    maintenance::Maintenance,
    outbox,
    parked_records::ParkedRecords,
    sender::Sender,
};
use crate::fault_point;

/// Records that the Kafka client holds unacknowledged, at most.
const IN_FLIGHT_RECORDS_MAX: usize = 100_000;
/// Their approximate size, at most.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// How often acknowledged units are deleted from the outbox.
const DELETE_INTERVAL: Duration = Duration::from_millis(50);
/// How often the outbox is polled without a notification: a host may have died between its commit and its
/// notification.
const OUTBOX_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What the leader keeps when its Kafka client is replaced.
#[derive(Debug, Default)]
pub(super) struct LeaderState {
    parked: ParkedRecords,
    maintenance: Maintenance,
}

/// The life of one Kafka client: publishes from the lowest unacknowledged unit until something breaks.
pub(super) struct Publisher<'a> {
    relay: &'a Relay,
    /// Its own for as long as it leads. The pool would test a returned connection before each use.
    database: PoolConnection<Postgres>,
    sender: Option<Sender>,
    /// Units to be deleted from the outbox.
    acknowledged: Vec<i64>,
    state: &'a mut LeaderState,
    outbox_read_at: Instant,
    read_outbox_by: Instant,
    has_read_outbox: bool,
}

impl<'a> Publisher<'a> {
    /// Connects to the database.
    ///
    /// # Errors
    /// The database is unreachable.
    pub(super) async fn connect(relay: &'a Relay, state: &'a mut LeaderState) -> anyhow::Result<Self> {
        let database = relay.database.admin.acquire().await.context("connecting the relay to Postgres")?;
        Ok(Self {
            relay,
            database,
            sender: None,
            acknowledged: Vec::new(),
            state,
            outbox_read_at: Instant::now(),
            read_outbox_by: Instant::now(),
            has_read_outbox: false,
        })
    }

    /// Publishes until the lease is lost, or the host stops and everything is sent.
    ///
    /// # Errors
    /// Postgres or Kafka has failed: connect again and resume from the outbox.
    pub(super) async fn publish(
        mut self,
        lease: &mut LeaderLease,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        self.set_has_peers(lease.has_peers);
        self.state.parked.load(&mut self.database).await?;
        let mut renew_at = Instant::now() + LEASE_RENEWAL_INTERVAL;
        let mut delete_at = Instant::now() + DELETE_INTERVAL;
        while lease.is_valid() {
            let now = Instant::now();
            if now >= renew_at {
                if !lease.renew(&mut *self.database, &self.relay.owner).await? {
                    return Ok(());
                }
                renew_at = now + LEASE_RENEWAL_INTERVAL;
                self.set_has_peers(lease.has_peers);
                self.state.parked.reload(&mut self.database).await?;
                self.state.maintenance.run_if_due(&self.relay.database).await;
            }
            self.collect_reports().await?;
            if now >= delete_at {
                self.delete_acknowledged().await?;
                delete_at = now + DELETE_INTERVAL;
            }
            if self.next_outbox_read() <= Instant::now() {
                self.read_outbox().await?;
            }
            if self.relay.publishes.load(Ordering::Acquire) {
                self.sender()?;
            }
            self.send_ready(lease).await?;
            if stop.is_cancelled() {
                self.delete_acknowledged().await?;
                if self.has_read_outbox && self.relay.is_idle() {
                    return Ok(());
                }
            }
            let delete_by = if self.acknowledged.is_empty() { renew_at } else { delete_at };
            tokio::select! {
                () = self.relay.changed.notified() => {}
                () = tokio::time::sleep_until(renew_at.min(self.next_outbox_read()).min(delete_by)) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
        Ok(())
    }

    fn set_has_peers(&self, has_peers: bool) {
        self.relay.order.lock().set_has_peers(has_peers);
        self.relay.notifier.set_has_peers(has_peers);
    }

    /// When to read the outbox next. With peers every unit asks for it, so the reads are spaced by the pause
    /// of the notifier.
    fn next_outbox_read(&self) -> Instant {
        let notifier = &self.relay.notifier;
        if !notifier.peer_has_committed() && !self.relay.order.lock().needs_snapshot() {
            return self.read_outbox_by;
        }
        if notifier.has_peers() {
            self.read_outbox_by.min(self.outbox_read_at + notifier.pause())
        } else {
            self.outbox_read_at
        }
    }

    async fn read_outbox(&mut self) -> anyhow::Result<()> {
        self.relay.notifier.begin_outbox_read();
        let (started_at, in_flight) = {
            let mut order = self.relay.order.lock();
            (order.begin_snapshot(), order.in_flight_seqs())
        };
        let rows = outbox::read_unpublished(&mut self.database, &in_flight).await?;
        let complete = i64::try_from(rows.len()).is_ok_and(|count| count < outbox::SNAPSHOT_ROWS_MAX);
        for row in &rows {
            self.state.parked.skip(row.seq, &row.parked);
        }
        let rows = rows.into_iter().map(|row| (row.seq, row.records)).collect();
        self.relay.order.lock().snapshot(started_at, rows, complete);
        self.has_read_outbox = true;
        self.outbox_read_at = Instant::now();
        self.read_outbox_by = self.outbox_read_at + OUTBOX_POLL_INTERVAL;
        Ok(())
    }

    /// Sends units until none is ready, the Kafka client is full, or the lease has expired.
    async fn send_ready(&mut self, lease: &LeaderLease) -> anyhow::Result<()> {
        loop {
            if self.is_full() || !lease.is_valid() {
                return Ok(());
            }
            let Some((seq, records)) = self.relay.order.lock().take_next() else { return Ok(()) };
            fault_point::reach("after-commit-before-publish");
            self.state.parked.park_behind(&mut self.database, seq, &records).await?;
            let skipped = self.state.parked.skipped_of(seq, &records);
            if let Err(error) = self.sender()?.send(seq, &records, |index| skipped.contains(&index)) {
                self.collect_reports().await?;
                return Err(error).context("passing records to the Kafka client");
            }
            self.relay.latency.sent(seq);
            self.relay.published.fetch_add(records.len() as u64, Ordering::Relaxed);
        }
    }

    fn sender(&mut self) -> anyhow::Result<&Sender> {
        match &mut self.sender {
            Some(sender) => Ok(sender),
            none => Ok(none.insert(Sender::new(&self.relay.brokers, self.relay.changed.clone())?)),
        }
    }

    fn is_full(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| {
            sender.in_flight() >= IN_FLIGHT_RECORDS_MAX || sender.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
        })
    }

    /// Takes Kafka's answers: notes the acknowledged units, parks the refused records, fails when the client
    /// is broken.
    async fn collect_reports(&mut self) -> anyhow::Result<()> {
        let Some(sender) = &self.sender else { return Ok(()) };
        let reports = sender.take_reports();
        if !reports.acknowledged.is_empty() {
            fault_point::reach("after-publish-before-clear");
        }
        self.relay.latency.acknowledged(&reports.acknowledged, reports.total_wait);
        self.acknowledged.extend(reports.acknowledged);
        for (seq, index, reason) in &reports.refused {
            self.park_refused(*seq, *index, reason).await?;
        }
        match reports.broken {
            Some(reason) => {
                self.delete_acknowledged().await?;
                Err(anyhow::anyhow!("Kafka: {reason}"))
            }
            None => Ok(()),
        }
    }

    async fn park_refused(&mut self, seq: i64, index: usize, reason: &str) -> anyhow::Result<()> {
        let records = self.relay.order.lock().in_flight_records(seq);
        let Some(record) = records.as_ref().and_then(|records| records.get(index)) else { return Ok(()) };
        tracing::error!(
            database = self.relay.database.name,
            plugin = record.plugin(),
            topic = record.topic,
            partition = record.partition,
            id = record.id(),
            reason,
            "Kafka refuses a record, parking it"
        );
        self.state.parked.park(&mut self.database, seq, index, record, reason).await
    }

    async fn delete_acknowledged(&mut self) -> anyhow::Result<()> {
        if self.acknowledged.is_empty() {
            return Ok(());
        }
        outbox::delete(&mut self.database, &self.acknowledged).await?;
        self.state.parked.forget(&self.acknowledged);
        let mut order = self.relay.order.lock();
        self.acknowledged.drain(..).for_each(|seq| order.acknowledged(seq));
        Ok(())
    }
}
