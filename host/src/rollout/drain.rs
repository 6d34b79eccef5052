//! Versions that are active no longer: loaded while they have sagas in flight, dropped when the last one has
//! ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{service::Service, shared::Shared};
use crate::versions::{draining::Drain, registry};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Counting takes this part of the time at most.
const PAUSE_PER_COUNT: u32 = 20;
/// A unit that was running when the version was replaced has ended by then.
const RETIRE_AFTER: Duration = Duration::from_secs(3);

impl Shared {
    /// Looks after the versions that drain, until the host stops.
    pub(crate) async fn drain(self: Arc<Self>) {
        let stop = self.stops.listeners.clone();
        let mut pause = LOOK_EVERY;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let began = Instant::now();
            for service in self.services() {
                if service.draining.all().is_empty() {
                    continue;
                }
                if let Err(error) = look_after(&service).await {
                    tracing::debug!(plugin = service.name, "{error:#}");
                }
            }
            pause = LOOK_EVERY.max(began.elapsed() * PAUSE_PER_COUNT);
        }
    }
}

/// Loads what has sagas in flight, and drops what has none or was taken away.
///
/// # Errors
/// When Postgres or Kafka is away.
pub(crate) async fn look_after(service: &Service) -> anyhow::Result<()> {
    let in_flight = registry::in_flight(&service.database.admin, &service.name).await?;
    let active = service.active.load_full();
    for digest in in_flight.keys() {
        if service.must_load(&active, digest) {
            service.load_draining(digest).await?;
        }
    }
    for drain in service.draining.all().iter() {
        let digest = &drain.running.version.digest;
        // By the breaker of another host.
        if registry::withdrawn(&service.database.admin, &service.name, digest).await? {
            service.draining.withdraw(digest);
            continue;
        }
        match in_flight.get(digest) {
            Some(sagas) => tell_if_late(service, drain, *sagas),
            None if drain.since.elapsed().is_ok_and(|since| since >= RETIRE_AFTER) => {
                tracing::info!(plugin = service.name, digest, "plugin retired: its last saga has ended");
                service.draining.remove(digest);
            }
            None => {}
        }
    }
    Ok(())
}

fn tell_if_late(service: &Service, drain: &Drain, sagas: i64) {
    if drain.is_late_and_untold() {
        tracing::warn!(
            plugin = service.name,
            digest = drain.running.version.digest,
            sagas,
            drain_s_max = drain.running.version.policy.rollout.drain_s_max,
            "plugin drains for longer than drain_s_max; its sagas are listed by: saga-host sagas"
        );
    }
}
