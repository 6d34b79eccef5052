//! The leader's loop: sends committed units to Kafka in order and deletes from the outbox what Kafka has
//! acknowledged.

mod answers;
mod sending;

use std::time::{Duration, Instant as StdInstant};

use anyhow::{Context, bail, ensure};
use sqlx::{Postgres, pool::PoolConnection};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    election::{LEASE_RENEWAL_INTERVAL, LeaderLease},
    in_flight::{FailedPlace, Place, position, unit_and_index},
    leader::LeaderState,
    outbox,
    step_down::{self, STALLED_AFTER},
};
use crate::{
    model::{identity::Identity, record::Record},
    store::confirm_identity,
};

/// How often acknowledged units are deleted from the outbox.
const DELETE_INTERVAL: Duration = Duration::from_millis(50);
/// How often the outbox is polled without a notification: a host may have died between its commit and its
/// notification.
const OUTBOX_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long one read of the outbox may take: somebody may have locked a table, and the lease has expired then.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Why the leader stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadEnd {
    /// The lease is lost, or the host stops and everything is sent.
    Ended,
    /// Kafka is out of reach from here, and not from another host.
    SteppedDown,
    /// The outbox has a unit that a later build has written: a host of that build must lead.
    LaterBuildNeeded,
}

/// The life of one Postgres connection of the leader.
pub(super) struct Publisher<'a> {
    relay: &'a Relay,
    /// Its own for as long as it leads. The pool would test a returned connection before each use.
    database: PoolConnection<Postgres>,
    identity: Identity,
    state: &'a mut LeaderState,
    outbox_read_at: Instant,
    read_outbox_by: Instant,
    has_read_outbox: bool,
}

impl<'a> Publisher<'a> {
    /// Connects to the database.
    ///
    /// # Errors
    /// The database is unreachable. Or it has a new identity, which has ended the lease: what this host keeps
    /// in memory is about another one.
    pub(super) async fn connect(relay: &'a Relay, state: &'a mut LeaderState) -> anyhow::Result<Self> {
        let mut database =
            relay.database.admin.acquire().await.context("connecting the relay to Postgres")?;
        let confirmed = confirm_identity(&mut *database, &relay.database.name).await;
        let identity = confirmed.context("reading the identity of the database")?;
        ensure!(*state.identity.get_or_insert(identity) == identity, "the database has a new identity");
        Ok(Self {
            relay,
            database,
            identity,
            state,
            outbox_read_at: Instant::now(),
            read_outbox_by: Instant::now(),
            has_read_outbox: false,
        })
    }

    /// Publishes until the lead ends.
    ///
    /// # Errors
    /// Postgres has failed, or the Kafka properties are invalid: connect again and continue.
    pub(super) async fn publish(
        mut self,
        lease: &LeaderLease,
        stop: &CancellationToken,
    ) -> anyhow::Result<LeadEnd> {
        self.set_has_peers(lease.has_peers());
        self.state.parked.load(&mut self.database).await?;
        let mut tick_at = Instant::now() + LEASE_RENEWAL_INTERVAL;
        let mut delete_at = Instant::now() + DELETE_INTERVAL;
        while lease.is_valid() {
            let now = Instant::now();
            if now >= tick_at {
                tick_at = now + LEASE_RENEWAL_INTERVAL;
                if self.tick(lease).await? {
                    return Ok(LeadEnd::SteppedDown);
                }
            }
            self.collect_answers().await?;
            if now >= delete_at {
                self.delete_acknowledged().await?;
                delete_at = now + DELETE_INTERVAL;
            }
            if self.next_outbox_read().is_some_and(|at| at <= Instant::now())
                && let Some(ended) = self.read_outbox(lease).await?
            {
                return Ok(ended);
            }
            self.send(lease).await?;
            if stop.is_cancelled() {
                self.delete_acknowledged().await?;
                if self.has_read_outbox && self.relay.is_idle() {
                    return Ok(LeadEnd::Ended);
                }
            }
            let mut wake_at =
                if self.state.acknowledged.is_empty() { tick_at } else { delete_at.min(tick_at) };
            wake_at = self.next_outbox_read().map_or(wake_at, |at| wake_at.min(at));
            wake_at = self.state.next_at().map_or(wake_at, |at| wake_at.min(at.into()));
            tokio::select! {
                () = self.relay.changed.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
        Ok(LeadEnd::Ended)
    }

    /// What is done twice a second. Returns whether the lead is to be handed over.
    async fn tick(&mut self, lease: &LeaderLease) -> anyhow::Result<bool> {
        self.set_has_peers(lease.has_peers());
        self.state.parked.reload(&mut self.database).await?;
        self.state.maintenance.run_if_due(&self.relay.database).await;
        if self.state.isolated.is_empty() && self.state.parked.next_due().is_none() {
            self.state.alone.close_if_idle();
        }
        let stalled = self.stalled();
        self.relay.troubles.set(&self.relay.database.name, self.state.troubles(stalled.clone()));
        let Some((place, _)) = stalled else { return Ok(false) };
        if !self.state.in_flight.lock().is_silent(STALLED_AFTER) {
            self.isolate_stalled();
            return Ok(false);
        }
        if !lease.has_peers() {
            return Ok(false);
        }
        let has_candidate = step_down::report_stall(&mut *self.database, lease.epoch(), &place).await?;
        Ok(has_candidate && !self.relay.probe.reaches(&self.relay.brokers, &place).await)
    }

    /// Where the lowest record waits, when Kafka has not acknowledged it for too long, and since when.
    fn stalled(&self) -> Option<(Place, StdInstant)> {
        let (position, since) = self.state.in_flight.lock().overdue(STALLED_AFTER)?;
        self.record(position).map(|record| ((record.topic, record.partition), since))
    }

    /// Isolates the partitions that acknowledge nothing while others do, so that these others can continue.
    fn isolate_stalled(&self) {
        let overdue = self.state.in_flight.lock().all_overdue(STALLED_AFTER);
        for (seq, indexes) in overdue {
            let Some(records) = self.relay.order.lock().in_flight_records(seq) else { continue };
            for (index, record) in indexes.into_iter().filter_map(|at| Some((at, records.get(at)?))) {
                if !self.state.isolated.contains(&record.topic, record.partition) {
                    let failed = FailedPlace {
                        reason: "Kafka acknowledges nothing in this partition".to_owned(),
                        passing: true,
                        too_large: false,
                        last: position(seq, index),
                    };
                    let place = (record.topic.clone(), record.partition);
                    self.state.in_flight.lock().fail(place, failed);
                }
            }
        }
    }

    /// A record of a unit in flight.
    fn record(&self, position: i64) -> Option<Record> {
        let (seq, index) = unit_and_index(position);
        self.relay.order.lock().in_flight_records(seq)?.get(index).cloned()
    }

    fn set_has_peers(&self, has_peers: bool) {
        self.relay.order.lock().set_has_peers(has_peers);
        self.relay.notifier.set_has_peers(has_peers);
    }

    /// When to read the outbox next; none while nothing more can be sent. With peers every unit asks for it,
    /// so the reads are spaced by the pause of the notifier.
    fn next_outbox_read(&self) -> Option<Instant> {
        if self.has_read_outbox && self.state.is_full() {
            return None;
        }
        let notifier = &self.relay.notifier;
        if !notifier.peer_has_committed() && !self.relay.order.lock().needs_snapshot() {
            return Some(self.read_outbox_by);
        }
        if notifier.has_peers() {
            Some(self.read_outbox_by.min(self.outbox_read_at + notifier.pause()))
        } else {
            Some(self.outbox_read_at)
        }
    }

    /// Returns why the lead ends, if it does: a unit that a later build has written cannot be parked, since its
    /// keys are not known, and later records would overtake it.
    async fn read_outbox(&mut self, lease: &LeaderLease) -> anyhow::Result<Option<LeadEnd>> {
        self.relay.notifier.begin_outbox_read();
        let (started_at, in_flight) = {
            let mut order = self.relay.order.lock();
            (order.begin_snapshot(), order.in_flight_seqs())
        };
        let read = outbox::read_unpublished(&mut self.database, lease.epoch(), &in_flight);
        let snapshot = timeout(READ_WITHIN, read)
            .await
            .unwrap_or_else(|_| bail!("reading the outbox: no answer within {READ_WITHIN:?}"))?;
        if snapshot.lead_lost {
            return Ok(Some(LeadEnd::Ended));
        }
        let later = snapshot.of_later_build.as_ref();
        self.relay.note_later_build(later.map(|(seq, reason)| {
            format!(
                "unit {seq} in the outbox was written by a later build ({reason}), and nothing is sent before \
                 it: start a host of that build"
            )
        }));
        if later.is_some() {
            return Ok(Some(LeadEnd::LaterBuildNeeded));
        }
        for (seq, reason) in &snapshot.undecodable {
            self.state.parked.park_undecodable(&mut self.database, *seq, reason).await?;
            tracing::error!(
                database = self.relay.database.name,
                unit = seq,
                reason,
                "a unit in the outbox is damaged, parking it; its keys are not known, so later records of them \
                 are sent"
            );
        }
        for row in &snapshot.rows {
            self.state.parked.skip(row.seq, &row.parked);
        }
        let rows = snapshot.rows.into_iter().map(|row| (row.seq, row.records)).collect();
        self.relay.order.lock().snapshot(started_at, rows, snapshot.complete);
        self.has_read_outbox = true;
        self.outbox_read_at = Instant::now();
        self.read_outbox_by = self.outbox_read_at + OUTBOX_POLL_INTERVAL;
        Ok(None)
    }
}
