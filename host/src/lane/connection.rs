//! A lane's lease and its Postgres connection, which the lane acquires again after it has lost them. It
//! retries until the host stops. While it is paused, `readyz` shows why; the log has one line when the pause
//! begins and one when it ends.

use std::{sync::Arc, time::Duration};

use sqlx::Connection;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::suspicion::{self, Evidence, Tried, in_time, timed_out};
use crate::{
    claims::lane_lease::{LEASE_MS, LaneLease},
    model::sqlstate::Unclear,
    store::{confirm_identity, session::Session},
    unit::{Backend, Setup, stages::Stages},
    versions::{PluginVersions, running::Running},
};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A pause that comes so long after the last one is not about the same trouble. Above the time that a unit may
/// take.
const TROUBLE_OVER_AFTER: Duration = Duration::from_secs(30);
/// Postgres answers a trivial statement within this time, or a quarter of `unit_ms_max` if that is longer.
/// Otherwise it is too slow to blame a guest for a statement that took too long.
const TRIVIAL_MS_MAX: u32 = 100;
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
    /// The last one, until it is known what became of its units.
    lost_lease: Option<LaneLease>,
    units_lost: bool,
    pub(super) session: Option<Session>,
    backoff: Duration,
    /// The end of the last pause.
    paused_at: Instant,
    /// Whether the missing lease or session has started the pause that is reported.
    paused_by_acquire: bool,
    /// Suspects that were parked or refused since the last unit in which the plugin succeeded.
    in_a_row: u32,
    /// Whether a unit took too long since then.
    timed_out: bool,
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
            lost_lease: None,
            units_lost: false,
            session: None,
            backoff: BACKOFF_MIN,
            paused_at: Instant::now(),
            paused_by_acquire: false,
            in_a_row: 0,
            timed_out: false,
            renew_at: Instant::now() + RENEWAL,
            stop,
        }
    }

    /// Acquires the lease and the session where they are missing; false when the host stops first.
    pub(super) async fn acquire(&mut self) -> bool {
        while let Err(error) = self.try_acquire().await {
            let before = self.is_paused();
            let goes_on = self.pause(&format!("{error:#}")).await;
            self.paused_by_acquire |= !before && self.is_paused();
            if !goes_on {
                return false;
            }
        }
        if std::mem::take(&mut self.paused_by_acquire) {
            self.resume();
        }
        true
    }

    async fn try_acquire(&mut self) -> anyhow::Result<()> {
        let backend = self.backend.clone();
        let Backend { database, role, relay, topics, .. } = &*backend;
        if self.session.is_none() {
            // The server may have crashed, or be another one.
            let identity = confirm_identity(&database.admin, &database.name).await?;
            if self.lease.as_ref().is_some_and(|lease| lease.identity != identity) {
                self.lose_lease();
            }
            relay.distrust_numbers();
        }
        if self.lease.is_none() {
            if let Some(lost) = &self.lost_lease {
                self.units_lost |= !lost.units_are_stored(&database.admin).await?;
                self.lost_lease = None;
            }
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

    /// Pauses before the next attempt, longer each time until a unit commits; false when the host stops. The
    /// second pause in a row is reported.
    pub(super) async fn pause(&mut self, reason: &str) -> bool {
        // An earlier trouble is over, although no unit has committed since.
        if self.paused_at.elapsed() > self.backoff + TROUBLE_OVER_AFTER {
            self.backoff = BACKOFF_MIN;
        }
        if self.backoff > BACKOFF_MIN {
            self.backend.paused.pause(self.what(), reason);
        }
        let waited = tokio::select! {
            () = tokio::time::sleep(self.backoff) => true,
            () = self.stop.cancelled() => false,
        };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.paused_at = Instant::now();
        waited
    }

    /// Records that the lane is not paused any more.
    pub(super) fn resume(&mut self) {
        self.backend.paused.resume(self.what());
    }

    fn is_paused(&self) -> bool {
        self.backend.paused.is_paused(self.what())
    }

    fn what(&self) -> &'static str {
        if self.kind == "kafka" { "deliveries" } else { "requests" }
    }

    /// What the lane sees besides a failure of an unclear cause.
    pub(super) async fn evidence(&mut self, kind: Unclear, tried: Tried, suspects: usize) -> Evidence {
        let is_timeout = kind == Unclear::Timeout;
        self.timed_out |= is_timeout;
        let others_time_out = is_timeout && timed_out(&self.backend.plugin, tried.since);
        let is_asked = suspicion::depends_on_postgres(kind, tried, suspects);
        let postgres_answers = !is_asked || self.postgres_answers().await;
        Evidence { runs: tried.runs, suspects, others_time_out, postgres_answers, in_a_row: self.in_a_row }
    }

    async fn postgres_answers(&self) -> bool {
        let unit_ms_max = self.versions.active().version.policy.limits.unit_ms_max;
        let limit = Duration::from_millis(u64::from(TRIVIAL_MS_MAX.max(unit_ms_max / 4)));
        let asked = sqlx::query("SELECT 1").execute(&self.backend.database.admin);
        matches!(timeout(limit, asked).await, Ok(Ok(_)))
    }

    /// Counts a suspect that is parked or refused.
    pub(super) fn count_suspect(&mut self) {
        self.in_a_row += 1;
    }

    /// The setup of a unit; none while the lease is missing.
    pub(super) fn setup<'a>(&'a mut self, active: &'a Arc<Running>, is_suspect: bool) -> Option<Setup<'a>> {
        Some(Setup {
            backend: &self.backend,
            versions: &self.versions,
            active,
            lease: self.lease.as_ref()?,
            stages: &self.stages,
            is_suspect,
            session: &mut self.session,
        })
    }

    /// Records that a unit was committed, which has advanced the lease, and whether the plugin has handled
    /// something in it.
    pub(super) fn committed(&mut self, handled: bool) {
        if let Some(lease) = &mut self.lease {
            lease.unit += 1;
        }
        if handled {
            if std::mem::take(&mut self.timed_out) {
                in_time(&self.backend.plugin);
            }
            self.in_a_row = 0;
            self.backoff = BACKOFF_MIN;
            self.resume();
        }
        self.renew_at = Instant::now() + RENEWAL;
    }

    /// When an idle lane must renew its lease.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// Renews the lease of an idle lane. A lost one must be acquired again.
    pub(super) async fn renew(&mut self) {
        self.renew_at = Instant::now() + RENEWAL;
        let Some(lease) = &self.lease else { return };
        match lease.renew(&self.backend.database.admin).await {
            Ok(true) => {}
            Ok(false) => self.lose_lease(),
            Err(error) => tracing::debug!(plugin = self.backend.plugin, "{error:#}"),
        }
    }

    /// The lease must be acquired again.
    pub(super) fn lose_lease(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.lost_lease = Some(lease);
        }
    }

    /// Whether the database has lost units that the lane has committed, since the last call. A server that
    /// crashes loses those whose commit did not wait for the disk.
    pub(super) fn take_units_lost(&mut self) -> bool {
        std::mem::take(&mut self.units_lost)
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
