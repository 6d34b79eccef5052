//! Handles rollback requests: rolls back to the previous version when lanes report that the active one fails.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    Rollout,
    deploy::{DeployError, environment, short},
    service::Service,
    services::Rejected,
};
use crate::versions::{registry, rollback_guard::RollbackRequest};

/// The pause before parked deliveries are redriven: by then every host has followed, and the last unit of the
/// failing version has ended.
const REDRIVE_PAUSE: Duration = Duration::from_secs(1);

impl Rollout {
    /// Rolls back at each request, until the host stops.
    pub(crate) async fn guard(&self, mut requests: UnboundedReceiver<RollbackRequest>) {
        let stop = self.launcher.stops.listeners.clone();
        while let Some(Some(request)) = stop.run_until_cancelled(requests.recv()).await {
            let Some(service) = self.services.find(&request.plugin) else { continue };
            let active = service.versions.active();
            if active.generation != request.generation {
                continue;
            }
            if let Err(error) = self.roll_back_failing(&service, &request).await {
                let reason = format!("{}; the rollback failed: {error}", request.reason);
                tracing::error!(
                    plugin = request.plugin,
                    digest = request.digest,
                    reason,
                    "the failing version stays active; deploy another one"
                );
                continue;
            }
            tokio::time::sleep(REDRIVE_PAUSE).await;
            let pool = &service.backend.database.admin;
            if let Err(error) = registry::redrive_parked(pool, &request.plugin, active.since).await {
                let reason =
                    format!("{error:#}. To redrive them: saga-host redrive --plugin {}", request.plugin);
                tracing::error!(
                    plugin = request.plugin,
                    reason,
                    "the parked deliveries of the plugin are not redriven"
                );
            }
        }
    }

    async fn roll_back_failing(
        &self,
        service: &Service,
        request: &RollbackRequest,
    ) -> Result<(), DeployError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let (plugin, pool) = (service.name(), &service.backend.database.admin);
        let previous = registry::previous_digest(pool, plugin, &request.digest).await.map_err(environment)?;
        let previous = previous
            .ok_or_else(|| DeployError::Conflict("the registry stores no previous version".into()))?;
        self.activate_stored(pool, plugin, &previous, registry::ROLLBACK_GUARD, &request.digest).await?;
        service.versions.draining().withdraw(&request.digest);
        let reason = format!("{}; {} is active again", request.reason, short(&previous));
        tracing::error!(plugin = %plugin, digest = request.digest, reason, "plugin rolled back");
        let (digest, at) = (request.digest.clone(), SystemTime::now());
        self.services.reject(plugin, Rejected { digest, reason, at });
        Ok(())
    }
}
