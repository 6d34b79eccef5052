//! What a lane does after a unit was rolled back: the same for deliveries and requests.

use super::connection::LaneConnection;
use crate::model::fault::{Culprit, Fault};

/// What becomes of the batch whose unit was rolled back.
#[derive(Debug)]
pub(super) enum Recovery {
    /// Run the same batch again: nobody in it is to blame.
    Again,
    /// The host stops: leave the batch.
    Stop,
    /// Nobody can say whether the unit was committed.
    UnknownOutcome,
    /// Take these out of the batch, then run the rest again.
    TakeOut(Vec<Culprit>),
    /// One of the batch is to blame, and nobody knows which: halve it. The reason is the guest's.
    Halve(String),
}

impl LaneConnection {
    /// Drops what the fault has made useless, waits where the environment is at fault, and loads a version that
    /// is missing.
    pub(super) async fn recover(&mut self, fault: Fault) -> Recovery {
        self.discard_after(&fault).await;
        match fault {
            Fault::LaneLost | Fault::PartitionsLost => Recovery::Again,
            Fault::Environment(reason) => self.again_after(&reason).await,
            Fault::VersionNotLoaded(digest) => match self.versions.load_draining(&digest).await {
                Ok(()) => Recovery::Again,
                Err(error) => self.again_after(&format!("{error:#}")).await,
            },
            Fault::Unknown => Recovery::UnknownOutcome,
            Fault::Culprits(culprits) => Recovery::TakeOut(culprits),
            Fault::Guest(reason) => Recovery::Halve(reason),
        }
    }

    async fn again_after(&mut self, reason: &str) -> Recovery {
        if self.back_off(reason).await { Recovery::Again } else { Recovery::Stop }
    }

    async fn discard_after(&mut self, fault: &Fault) {
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
}
