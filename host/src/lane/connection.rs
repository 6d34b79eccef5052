//! A lane's lease and its Postgres connection, which the lane acquires again after it has lost them. It
//! retries until the host stops.

use std::{sync::Arc, time::Duration};

use sqlx::Connection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    claims::lane_lease::{LEASE_MS, LaneLease},
    store::{confirm_identity, session::Session},
    unit::{Backend, Setup, stages::Stages},
    versions::{PluginVersions, running::Running},
};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The interval in which an idle lane renews its lease.
const RENEWAL: Duration = Duration::from_millis(LEASE_MS as u64 / 3);

/// What the lanes of a plugin share.
#[derive(Clone, Debug)]
pub struct LaneContext {
    /// The plugin's database, role, topics and relay.
    pub backend: Arc<Backend>,
    /// The plugin's versions on this host.
    pub versions: Arc<PluginVersions>,
    /// The id of this host in `saga.lane`.
    pub host_id: String,
    /// Ends the lane.
    pub stop: CancellationToken,
}

/// A lane's lease and session.
#[derive(Debug)]
pub(super) struct LaneConnection {
    pub(super) backend: Arc<Backend>,
    pub(super) versions: Arc<PluginVersions>,
    pub(super) host_id: String,
    /// `kafka` or `http`.
    kind: &'static str,
    stages: Arc<Stages>,
    pub(super) lease: Option<LaneLease>,
    pub(super) session: Option<Session>,
    backoff: Duration,
    renew_at: Instant,
    stop: CancellationToken,
}

impl LaneConnection {
    /// A connection that has acquired nothing yet. Units record in `stages` where their time goes.
    pub(super) fn new(context: LaneContext, kind: &'static str, stages: Arc<Stages>) -> Self {
        let LaneContext { backend, versions, host_id, stop } = context;
        Self {
            backend,
            versions,
            host_id,
            kind,
            stages,
            lease: None,
            session: None,
            backoff: BACKOFF_MIN,
            renew_at: Instant::now() + RENEWAL,
            stop,
        }
    }

    /// Acquires the lease and the session where they are missing; false when the host stops first.
    pub(super) async fn acquire(&mut self) -> bool {
        loop {
            match self.try_acquire().await {
                Ok(()) => return true,
                Err(error) => {
                    if !self.back_off(&format!("{error:#}")).await {
                        return false;
                    }
                }
            }
        }
    }

    async fn try_acquire(&mut self) -> anyhow::Result<()> {
        let Backend { database, role, relay, topics, .. } = &*self.backend;
        if self.session.is_none() {
            // The server may have crashed, or be another one.
            let identity = confirm_identity(&database.admin, &database.name).await?;
            self.lease.take_if(|lease| lease.identity != identity);
            relay.distrust_numbers();
        }
        if self.lease.is_none() {
            let lease = LaneLease::acquire(database, role, self.kind, &self.host_id).await?;
            topics.reload().await?;
            self.lease = Some(lease);
        }
        if self.session.is_none() {
            let policy = self.versions.active().version.policy.clone();
            let connection = database.connect_plugin(role, &policy).await?;
            self.session = Some(Session { connection });
        }
        Ok(())
    }

    /// Pauses before the next attempt, longer each time until a unit commits; false when the host stops.
    pub(super) async fn back_off(&mut self, reason: &str) -> bool {
        if self.backoff > BACKOFF_MIN {
            let plugin = &self.backend.plugin;
            tracing::warn!(plugin, lane = self.kind, "lane paused, retrying: {reason}");
        }
        let waited = tokio::select! {
            () = tokio::time::sleep(self.backoff) => true,
            () = self.stop.cancelled() => false,
        };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        waited
    }

    /// The setup of a unit; none while the lease is missing.
    pub(super) fn setup<'a>(&'a mut self, active: &'a Arc<Running>) -> Option<Setup<'a>> {
        Some(Setup {
            backend: &self.backend,
            versions: &self.versions,
            active,
            lease: self.lease.as_ref()?,
            stages: &self.stages,
            session: &mut self.session,
        })
    }

    /// Records that a unit was committed, which has advanced the lease.
    pub(super) fn committed(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.unit += 1;
        }
        self.backoff = BACKOFF_MIN;
        self.renew_at = Instant::now() + RENEWAL;
    }

    /// When an idle lane must renew its lease.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Renews the lease of an idle lane. The next unit finds out whether the lease is lost.
    pub(super) async fn renew(&mut self) {
        self.renew_at = Instant::now() + RENEWAL;
        let Some(lease) = &self.lease else { return };
        if let Err(error) = lease.renew(&self.backend.database.admin).await {
            tracing::debug!(plugin = self.backend.plugin, "{error:#}");
        }
    }

    /// Gives the lease up, so that another lane can acquire the slot at once.
    pub(super) async fn release(&mut self) {
        if let Some(session) = self.session.take() {
            // When closing fails, the connection is dropped, and the server notices that too.
            let _closed = session.connection.close().await;
        }
        if let Some(lease) = self.lease.take()
            && let Err(error) = lease.release(&self.backend.database.admin).await
        {
            let plugin = &self.backend.plugin;
            tracing::debug!(plugin, "cannot release the lane lease; it expires in {LEASE_MS} ms: {error:#}");
        }
    }
}
