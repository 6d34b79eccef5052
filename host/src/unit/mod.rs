//! A unit of work: one batch, one transaction, one fresh instance of each plugin version that takes part.
//!
//! ```text
//!  admit ──▶ open ────▶ run ───────▶ materialize ─▶ flush ───▶ commit
//!  disposi-  fences,    the plugin   effects to     all rows,    │
//!  tions     locks      and its SQL  rows, records  outbox row   └─▶ relay, answers, waiters
//! ```
//!
//! A unit that fails before COMMIT leaves nothing behind. The kind of fault ([`crate::model::fault::Fault`])
//! decides what its lane does next. Only a lost race over a saga is retried here, up to `RUNS_MAX` runs.

pub mod admit;

mod commit;
pub mod deliveries;
mod flush;
mod flush_error;
pub mod materialize;
pub mod open;
mod outcome_writer;
pub(crate) mod overdue;
pub mod paused;
pub mod pending;
pub mod requests;
pub mod rows;
mod runs;
mod sql_text;
pub mod stages;
pub mod waiters;
pub mod writes;

use std::sync::Arc;

use materialize::UnitContext;
use open::{Opened, Opening, open};
use sqlx::PgConnection;
use stages::Stages;

use self::{flush_error::FlushError, paused::PausedLanes};
use crate::{
    claims::{
        agreed_topics::AgreedTopics,
        lane_lease::{LEASE_MS, LaneLease},
    },
    metrics::{IgnoredDeliveries, SagaDurations},
    model::{
        fault::{Culprit, Fault},
        format::AgreedFormat,
    },
    plugin::call::CallContext,
    relay::Relay,
    store::{Database, PluginRole, session::Session},
    versions::{PluginVersions, running::Running},
};

/// Runs of one unit. Another unit may start or move a saga between this unit's look at it and its flush: the
/// second run sees that. After the last one, what keeps causing the conflict is at fault.
const RUNS_MAX: u32 = 3;

/// How long a statement waits for a locked row once one of its batch has met one: the others of the batch are
/// not to wait for it again and again.
const SUSPECT_LOCK_TIMEOUT_MS: u32 = 200;

/// Where the units of one plugin run: its database, its role there, and what sends its records.
#[derive(Debug)]
pub struct Backend {
    /// The plugin.
    pub plugin: String,
    /// Its database.
    pub database: Database,
    /// The role that its units run under.
    pub role: PluginRole,
    /// The partition counts of the topics of its database.
    pub topics: Arc<AgreedTopics>,
    /// The relay of its database.
    pub relay: Arc<Relay>,
    /// How long its sagas take.
    pub saga_durations: SagaDurations,
    /// What it ignored on this host.
    pub ignored: IgnoredDeliveries,
    /// The format of the bodies that its units store.
    pub format: AgreedFormat,
    /// Which of its lanes are paused, and why.
    pub paused: PausedLanes,
}

/// What a unit runs with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// Where it runs.
    pub backend: &'a Backend,
    /// The plugin's versions on this host.
    pub versions: &'a PluginVersions,
    /// The active version: it handles what no saga in flight keeps with another.
    pub active: &'a Arc<Running>,
    /// The lane's lease, as it is before the unit.
    pub lease: &'a LaneLease,
    /// Counts the lane's time.
    pub stages: &'a Stages,
    /// Whether a delivery or request of it may have met a row that somebody has locked.
    pub is_suspect: bool,
    /// The lane's connection; none after a fault that closed it.
    pub session: &'a mut Option<Session>,
}

impl Setup<'_> {
    fn connection(&mut self) -> Result<&mut PgConnection, Fault> {
        match self.session {
            Some(session) => Ok(&mut session.connection),
            None => Err(closed()),
        }
    }

    /// Opens the unit.
    async fn open(&mut self, mut opening: Opening) -> Result<Opened, Fault> {
        if self.is_suspect {
            opening.lock_timeout_ms = Some(SUSPECT_LOCK_TIMEOUT_MS);
        }
        let lease = self.lease;
        open(self.connection()?, lease, LEASE_MS, &opening).await
    }

    /// Before the unit runs again.
    async fn roll_back(&mut self) -> Result<(), Fault> {
        let rolled_back = sqlx::raw_sql("ROLLBACK").execute(self.connection()?).await;
        rolled_back.map(drop).map_err(|error| Fault::of(&error))
    }

    fn take_session(&mut self) -> Result<Session, Fault> {
        self.session.take().ok_or_else(closed)
    }

    /// `IDENTITY:slot:epoch:unit` of the open unit.
    fn unit_name(&self) -> String {
        let LaneLease { identity, slot, epoch, unit, .. } = self.lease;
        format!("{identity}:{slot}:{epoch}:{}", unit + 1)
    }

    /// `now_us` is the time at which the plugin has all its row locks: what is decided later about a row is
    /// then sent with a later time.
    fn unit_context(&self, now_us: i64) -> UnitContext<'_> {
        UnitContext {
            unit: self.unit_name(),
            database: &self.backend.database.name,
            plugin: &self.backend.plugin,
            now_us,
            topics: self.backend.topics.counts(),
        }
    }

    fn call(&self, now_us: i64, read_only: bool) -> CallContext {
        CallContext { unit: self.unit_name(), now_us, read_only }
    }
}

fn closed() -> Fault {
    Fault::Environment("the connection to Postgres is closed".into())
}

/// Why a unit was rolled back.
#[derive(Debug)]
pub struct Failed {
    /// Culprits by their place in the work.
    pub fault: Fault,
    /// The version whose call failed; none when it was not in a call.
    pub version: Option<Arc<Running>>,
    /// Another unit may have changed a saga meanwhile: running again may help.
    lost_race: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, version: None, lost_race: false }
    }
}

impl Failed {
    /// `running` maps places in the call to places in the work.
    fn in_commit(error: FlushError, running: &[usize]) -> Self {
        match error {
            FlushError::Fault(fault) => in_work(fault, running).into(),
            FlushError::LostRace(fault) => Self { lost_race: true, ..in_work(fault, running).into() },
        }
    }
}

/// Culprits by their place in the work instead of in the call.
fn in_work(fault: Fault, running: &[usize]) -> Fault {
    let Fault::Culprits(culprits) = fault else { return fault };
    let known = culprits
        .into_iter()
        .filter_map(|culprit| Some(Culprit { cause: *running.get(culprit.cause)?, ..culprit }));
    let mut culprits: Vec<Culprit> = known.collect();
    if culprits.is_empty() {
        return Fault::Guest("the plugin names culprits that are not in its batch".into());
    }
    culprits.sort_by_key(|culprit| culprit.cause);
    culprits.dedup_by_key(|culprit| culprit.cause);
    Fault::Culprits(culprits)
}
