//! Follows other hosts on the same databases: activates here what they have activated.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::Instant;

use super::{Rollout, deploy::DeployError};
use crate::{ingress::http::not_running::Cause, model::plugin_name::PluginName};

/// The interval in which a host polls the databases for activations of other hosts.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The pause before the next attempt to activate a version after Postgres or Kafka failed.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// An active version that this host cannot run.
struct Refused {
    digest: String,
    /// When to try again; none when only another version can help.
    retry_at: Option<Instant>,
}

impl Refused {
    fn still_holds(&self, digest: &str) -> bool {
        self.digest == digest && self.retry_at.is_none_or(|retry_at| Instant::now() < retry_at)
    }
}

impl Rollout {
    /// Follows the other hosts until this one stops.
    pub(crate) async fn follow(&self) {
        let mut refused: HashMap<PluginName, Refused> = HashMap::new();
        let stop = self.launcher.stops.listeners.clone();
        while stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
            for plugin in self.followed() {
                self.follow_one(&plugin, &mut refused).await;
            }
        }
    }

    /// The plugins that another host may activate in a version that this one does not run. What waits for
    /// Postgres or Kafka starts with the active version anyway.
    fn followed(&self) -> BTreeSet<PluginName> {
        let mut plugins: BTreeSet<PluginName> = self.services.rejections().into_keys().collect();
        plugins.extend(self.services.all().iter().map(|service| service.name().clone()));
        for (plugin, awaited) in self.services.awaited() {
            match awaited.not_running.cause {
                Cause::Outage => plugins.remove(&plugin),
                Cause::Refused | Cause::NotDeployed => plugins.insert(plugin),
            };
        }
        plugins
    }

    async fn follow_one(&self, plugin: &PluginName, refused: &mut HashMap<PluginName, Refused>) {
        let Ok(elsewhere) = self.activated_elsewhere(plugin).await else { return };
        let Some((pool, digest)) = elsewhere else {
            if refused.remove(plugin).is_some() {
                self.resume(plugin);
            }
            return;
        };
        if refused.get(plugin).is_some_and(|refused| refused.still_holds(&digest)) {
            return;
        }
        let _one_at_a_time = self.one_at_a_time.lock().await;
        // A deployment of this host may have ended while this one waited for the lock.
        let still = self.activated_elsewhere(plugin).await.ok().flatten();
        if still.is_none_or(|(_, active)| active != digest) {
            return;
        }
        let (retry_at, reason) = match self
            .activate_stored(&pool, plugin, &digest, "another host", &digest)
            .await
        {
            Ok(_) => return self.resume(plugin),
            Err(DeployError::SameDigest(_) | DeployError::Conflict(_) | DeployError::UnknownPlugin) => return,
            Err(DeployError::Environment(reason)) => (Some(Instant::now() + RETRY_PAUSE), reason),
            Err(DeployError::Rejected(reason)) => (None, reason),
        };
        self.suspend(plugin, &digest, &reason).await;
        refused.insert(plugin.clone(), Refused { digest, retry_at });
    }

    fn resume(&self, plugin: &PluginName) {
        if let Some(service) = self.services.find(plugin)
            && service.versions.suspended().is_some()
        {
            service.versions.resume();
            tracing::info!(plugin = %plugin, "plugin resumed: this host handles its partitions and requests again");
        }
    }

    /// The database and the active digest of a plugin, when this host runs another version or none. An error
    /// leaves both unknown.
    async fn activated_elsewhere(
        &self,
        plugin: &PluginName,
    ) -> Result<Option<(PgPool, String)>, DeployError> {
        let (pool, active) = match self.active_anywhere(plugin).await {
            Ok(found) => found,
            Err(DeployError::UnknownPlugin) => return Ok(None),
            Err(error) => {
                tracing::debug!(plugin = %plugin, "{error}");
                return Err(error);
            }
        };
        let here = self.services.find(plugin).map(|service| service.versions.active());
        let runs = here.is_some_and(|here| here.version.digest == active);
        Ok((!runs).then_some((pool, active)))
    }
}
