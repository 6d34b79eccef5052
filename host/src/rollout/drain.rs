//! Maintains versions that drain: loads them while they have sagas in flight, and drops each when its last
//! saga has ended.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::Rollout;
use crate::versions::{PluginVersions, draining::Drain, registry};

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a check, in multiples of its duration: counting sagas takes at most one part in 20 of the
/// time.
const PAUSE_PER_CHECK: u32 = 20;
/// By then a unit that was running when the version was replaced has ended.
const RETIRE_AFTER: Duration = Duration::from_secs(3);

impl Rollout {
    /// Maintains the draining versions of all plugins until the host stops.
    pub(crate) async fn drain(&self) {
        let stop = self.launcher.stops.listeners.clone();
        let mut pause = CHECK_INTERVAL;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let started = Instant::now();
            for service in self.services.all() {
                if service.versions.draining().all().is_empty() {
                    continue;
                }
                let pool = &service.backend.database.admin;
                if let Err(error) = maintain(service.name(), pool, &service.versions).await {
                    tracing::debug!(plugin = %service.name(), "{error:#}");
                }
            }
            pause = CHECK_INTERVAL.max(started.elapsed() * PAUSE_PER_CHECK);
        }
    }
}

/// Loads versions that have sagas in flight, and drops those that have none or that were withdrawn.
///
/// # Errors
/// Postgres or Kafka is unreachable.
pub(super) async fn maintain(plugin: &str, pool: &PgPool, versions: &PluginVersions) -> anyhow::Result<()> {
    let in_flight = registry::in_flight(pool, plugin).await?;
    let active = versions.active();
    for digest in in_flight.keys() {
        if versions.must_load(&active, digest) {
            versions.load_draining(digest).await?;
        }
    }
    let draining = versions.draining();
    for drain in draining.all().iter() {
        let digest = &drain.running.version.digest;
        // The rollback guard of another host may have withdrawn it.
        if registry::withdrawn(pool, plugin, digest).await? {
            draining.withdraw(digest);
            continue;
        }
        match in_flight.get(digest) {
            Some(sagas) => warn_if_late(plugin, drain, *sagas),
            None if drain.since.elapsed().is_ok_and(|since| since >= RETIRE_AFTER) => {
                tracing::info!(plugin, digest, "version retired: its last saga has ended");
                draining.remove(digest);
            }
            None => {}
        }
    }
    Ok(())
}

fn warn_if_late(plugin: &str, drain: &Drain, sagas: i64) {
    if drain.is_late_for_the_first_time() {
        tracing::warn!(
            plugin,
            digest = drain.running.version.digest,
            sagas,
            drain_s_max = drain.running.version.policy.rollout.drain_s_max,
            "the version drains for longer than drain_s_max; to list its sagas: saga-host sagas"
        );
    }
}
