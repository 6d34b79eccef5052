//! A unit of work: one batch, one transaction, one fresh instance of each version of the plugin in it.
//!
//! ```text
//!  open ──▶ plugin ──▶ materialize ──▶ close ──▶ COMMIT
//!  fences,   its two    effects    sagas,     │
//!  sagas     statements to rows    outbox     └─▶ relay, answers, waiters
//! ```
//!
//! Everything up to COMMIT leaves nothing when it fails; what failed decides what comes next
//! ([`fault::Fault`]). A unit never retries: its lane does.

pub mod admit;
pub mod commit;
pub mod deliveries;
pub mod flush;
pub mod materialize;
pub mod open;
pub(crate) mod overdue;
pub mod pending;
pub mod requests;
mod runs;
pub mod stages;
pub mod waiters;

use std::sync::Arc;

use open::{Opened, Opening, open};
use sqlx::PgConnection;
use stages::Stages;

use crate::{
    claims::lane_lease::{LEASE_MS, LaneLease},
    model::fault::Fault,
    plugin::call::CallSetting,
    rollout::service::Service,
    store::session::Session,
    versions::running::Running,
};

/// What a unit runs with.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The plugin.
    pub service: &'a Service,
    /// The version that handles what no saga in flight keeps from it.
    pub active: &'a Arc<Running>,
    /// The lane's place, before the unit.
    pub lease: &'a LaneLease,
    /// Where the lane's time goes.
    pub stages: &'a Stages,
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

    /// Opens the unit. When Postgres takes the host's own statement amiss, what a guest has left in
    /// the session may be why: the next unit gets a new one.
    async fn open(&mut self, opening: &Opening) -> Result<Opened, Fault> {
        let lease = self.lease;
        let opened = open(self.connection()?, lease, LEASE_MS, opening).await;
        if matches!(opened, Err(Fault::Guest(_))) {
            *self.session = None;
        }
        opened
    }

    fn take_session(&mut self) -> Result<Session, Fault> {
        self.session.take().ok_or_else(closed)
    }

    /// `database:slot:epoch:unit`, of the unit that is open.
    fn unit_name(&self) -> String {
        let LaneLease { slot, epoch, unit, .. } = self.lease;
        format!("{}:{slot}:{epoch}:{}", self.service.database.name, unit + 1)
    }

    fn call(&self, now_us: i64, read_only: bool) -> CallSetting {
        CallSetting { unit: self.unit_name(), now_us, read_only }
    }
}

fn closed() -> Fault {
    Fault::Environment("the connection to Postgres is closed".into())
}
