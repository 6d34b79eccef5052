//! Due work: timers, deadlines, and parked deliveries that are tried again. The lane polls for it between two
//! batches.

use std::time::Duration;

use tokio::time::Instant;

use super::{Delivery, KafkaLane, Work};
use crate::{
    claims::partition::parked_keys,
    lane::scheduler::{self, Due, Duties},
    unit::Backend,
};

/// How long one round of due work takes, about, where some of it fails again and again.
const DUE_WORK_MAX: Duration = Duration::from_secs(1);
pub(super) const DUE_WORK: &str = "timers, deadlines and retries";

impl KafkaLane {
    /// Handles one round of due work. Returns whether more may be due at once. After a round without progress
    /// it returns false, since the next round would find the same.
    pub(super) async fn handle_due(&mut self) -> bool {
        let backend = self.connection.backend.clone();
        let duties = Duties {
            positions: self.claims.positions(),
            leads: backend.relay.is_leader(),
            host_id: self.connection.host_id.clone(),
            unreadable: self.unreadable.clone(),
        };
        let limit = self.connection.versions.active().version.policy.limits.batch_deliveries_max;
        let due = scheduler::due(&backend.database.admin, &backend.plugin, &duties, limit).await;
        let Some(due) = self.polled(due) else { return false };
        if due.is_empty() || self.stop.is_cancelled() {
            return false;
        }
        let more = may_be_more(&due, limit);
        let work = due.into_iter().map(|delivery| Work { delivery, parking: None }).collect();
        let progress = self.process(work, Some(Instant::now() + DUE_WORK_MAX)).await;
        self.refresh_parked().await;
        more && progress
    }

    /// What was due; none when the poll has failed, which `readyz` shows until one succeeds.
    fn polled(&mut self, due: anyhow::Result<Due>) -> Option<Vec<Delivery>> {
        let Backend { plugin, paused, format, .. } = &*self.connection.backend;
        match due {
            Ok(due) => {
                paused.resume(DUE_WORK);
                format.set(due.reads_max);
                for (id, reason) in due.unreadable {
                    tracing::error!(
                        plugin,
                        id,
                        %reason,
                        "a parked delivery cannot be read, and holds back its key; run the build that reads it, \
                         or discard it: POST /v1/parked/{plugin}-{id}/discard"
                    );
                    self.unreadable.push(id);
                }
                Some(due.deliveries)
            }
            Err(error) => {
                paused.pause(DUE_WORK, &format!("{error:#}"));
                None
            }
        }
    }

    /// Reads which keys have parked deliveries: a person may have discarded some.
    async fn refresh_parked(&self) {
        let backend = &self.connection.backend;
        let parked: Vec<_> = self.claims.with(|claims| {
            let with_parked = claims.iter().filter(|(_, claim)| !claim.parked.is_empty());
            with_parked.map(|(place, claim)| (place.clone(), claim.epoch)).collect()
        });
        for (place, epoch) in parked {
            match parked_keys(&backend.database.admin, &backend.plugin, &place.0, place.1).await {
                Ok(keys) => self.claims.set_parked(&place, epoch, keys),
                Err(error) => tracing::debug!(plugin = backend.plugin, "{error:#}"),
            }
        }
    }
}

/// Whether more may be due than was read: each key gives only its first parked delivery, and no kind of due
/// work gives more than `limit`.
fn may_be_more(due: &[Delivery], limit: u32) -> bool {
    due.len() >= usize::try_from(limit).unwrap_or(usize::MAX)
        || due.iter().any(|delivery| delivery.parked_id.is_some())
}

#[cfg(test)]
mod tests {
    use super::{Delivery, may_be_more};
    use crate::model::delivery::Origin;

    #[test]
    fn another_round_follows_when_the_first_may_have_left_out_due_work() {
        let timer = || Delivery::bare(Origin::Timer { name: "t".into() }, 0);
        assert!(!may_be_more(&[timer()], 2));
        assert!(may_be_more(&[timer(), timer()], 2));
        assert!(may_be_more(&[Delivery { parked_id: Some(1), ..timer() }], 2));
    }
}
