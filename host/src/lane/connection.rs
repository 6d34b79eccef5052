//! A lane's place in the database: its lease and its connection. Both are had
//! again after whatever took them away; waiting for Postgres has no end but the host's.

use std::{sync::Arc, time::Duration};

use sqlx::Connection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    claims::lane_lease::{LEASE_MS, LaneLease},
    model::fault::Fault,
    rollout::service::Service,
    store::session::Session,
    unit::{Setup, stages::Stages},
    versions::running::Running,
};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// An idle lane keeps its slot this often.
pub(super) const RENEWAL: Duration = Duration::from_millis(LEASE_MS as u64 / 3);

/// A lane's slot and connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) service: Arc<Service>,
    kind: &'static str,
    stages: Arc<Stages>,
    pub(super) owner: String,
    lease: Option<LaneLease>,
    session: Option<Session>,
    backoff: Duration,
    renew_at: Instant,
    stop: CancellationToken,
}

impl Seat {
    /// `stop` ends waiting for Postgres.
    pub(super) fn new(
        service: Arc<Service>,
        kind: &'static str,
        stages: Arc<Stages>,
        owner: &str,
        stop: CancellationToken,
    ) -> Self {
        Self {
            service,
            kind,
            stages,
            owner: owner.to_owned(),
            lease: None,
            session: None,
            backoff: BACKOFF_MIN,
            renew_at: Instant::now() + RENEWAL,
            stop,
        }
    }

    /// Claims and connects what is missing; false when the host stops before it succeeds.
    pub(super) async fn take(&mut self) -> bool {
        loop {
            match self.try_take().await {
                Ok(()) => return true,
                Err(error) => {
                    if !self.pause(&format!("{error:#}")).await {
                        return false;
                    }
                }
            }
        }
    }

    async fn try_take(&mut self) -> anyhow::Result<()> {
        let service = &self.service;
        if self.lease.is_none() {
            self.lease =
                Some(LaneLease::acquire(&service.database, &service.role, self.kind, &self.owner).await?);
        }
        if self.session.is_none() {
            let policy = service.active.load().version.policy.clone();
            let connection = service.database.connect_plugin(&service.role, &policy).await?;
            self.session = Some(Session { connection });
        }
        Ok(())
    }

    /// Waits before the next try; false when the host stops.
    pub(super) async fn pause(&mut self, why: &str) -> bool {
        if self.backoff > BACKOFF_MIN {
            tracing::warn!(plugin = self.service.name, lane = self.kind, "waits for its environment: {why}");
        }
        let waited = tokio::select! {
            () = tokio::time::sleep(self.backoff) => true,
            () = self.stop.cancelled() => false,
        };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        waited
    }

    /// What a unit runs with; none before [`Seat::take`].
    pub(super) fn setup<'a>(&'a mut self, active: &'a Arc<Running>) -> Option<Setup<'a>> {
        let lease = self.lease.as_ref()?;
        let (service, stages) = (&*self.service, &*self.stages);
        Some(Setup { service, active, lease, stages, session: &mut self.session })
    }

    /// A unit was committed.
    pub(super) fn committed(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.unit += 1;
        }
        self.backoff = BACKOFF_MIN;
        self.renew_at = Instant::now() + RENEWAL;
    }

    /// Gives up what a fault has made useless.
    pub(super) async fn recover(&mut self, fault: &Fault) {
        match fault {
            Fault::LaneLost | Fault::Unknown => {
                self.lease = None;
                self.session = None;
            }
            Fault::Environment(_) => self.session = None,
            Fault::PartitionsLost | Fault::VersionNotLoaded(_) | Fault::Culprits(_) | Fault::Guest(_) => {
                if let Some(mut session) = self.session.take()
                    && sqlx::raw_sql("ROLLBACK").execute(&mut session.connection).await.is_ok()
                {
                    self.session = Some(session);
                }
            }
        }
    }

    /// When an idle lane must renew its slot.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Keeps the slot of an idle lane.
    pub(super) async fn renew(&mut self) {
        self.renew_at = Instant::now() + RENEWAL;
        let Some(lease) = &self.lease else { return };
        if let Err(error) = lease.renew(&self.service.database.admin).await {
            tracing::debug!(plugin = self.service.name, "{error:#}");
        }
    }

    /// Lets another lane have the slot.
    pub(super) async fn release(&mut self) {
        if let Some(session) = self.session.take() {
            // The server notices a connection that only goes away, too.
            let _ended = session.connection.close().await;
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release(&self.service.database.admin).await
        {
            tracing::debug!(plugin = self.service.name, "the slot is free in {LEASE_MS} ms: {error:#}");
        }
    }
}
