//! What a lane does after a unit was rolled back: the same for deliveries and requests.

use super::connection::LaneConnection;
use crate::model::fault::{Culprit, Fault, Suspicion};

/// What a lane does with the batch whose unit was rolled back.
#[derive(Debug)]
pub(super) enum Recovery {
    /// Run the same batch again: no delivery or request in it is to blame.
    Again,
    /// The host stops: abandon the batch.
    Stop,
    /// It is unknown whether the unit was committed.
    UnknownOutcome,
    /// Take these out of the batch, then run the rest again.
    TakeOut(Vec<Culprit>),
    /// One delivery or request of the batch is to blame, but it is unknown which: halve the batch. The reason
    /// is the guest's.
    Halve(String),
    /// The environment or one of the batch is to blame: weigh what else is seen.
    Weigh(Suspicion),
}

impl LaneConnection {
    /// Drops what the fault has made unusable, waits where the environment is at fault, and loads a missing
    /// version.
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
            Fault::Suspect(suspicion) => Recovery::Weigh(suspicion),
        }
    }

    async fn again_after(&mut self, reason: &str) -> Recovery {
        if self.pause(reason).await { Recovery::Again } else { Recovery::Stop }
    }

    async fn discard_after(&mut self, fault: &Fault) {
        match fault {
            Fault::LaneLost | Fault::Unknown => {
                self.lose_lease();
                self.session = None;
            }
            Fault::Environment(_) => self.session = None,
            Fault::PartitionsLost
            | Fault::VersionNotLoaded(_)
            | Fault::Culprits(_)
            | Fault::Guest(_)
            | Fault::Suspect(_) => {
                if let Some(mut session) = self.session.take()
                    && sqlx::raw_sql("ROLLBACK").execute(&mut session.connection).await.is_ok()
                {
                    self.session = Some(session);
                }
            }
        }
    }
}
