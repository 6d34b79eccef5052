//! Which version a plugin starts with when the host starts, or after its policy was edited.

use super::{
    Rollout,
    deploy::{DeployError, Deployed, digest_of, environment, short},
};
use crate::{ingress::http::not_running::Cause, model::plugin_name::PluginName, versions::registry};

impl Rollout {
    /// Starts a plugin with its file, unless the registry knows that file and another version is active: a
    /// file must not undo a rollback. A bad file does not prevent the active version from starting, either.
    pub(super) async fn start(
        &self,
        plugin: &PluginName,
        file: Option<&[u8]>,
    ) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let digest = file.map(digest_of).unwrap_or_default();
        match (self.stored_instead(plugin, &digest).await?, file) {
            (Some(stored), file) => {
                if file.is_some() && !self.services.awaited().contains_key(plugin) {
                    let to = digest.get(..12).unwrap_or_default();
                    let reason = format!(
                        "another version was activated after the file; to activate the file: saga-host \
                         rollback {plugin} --to {to}"
                    );
                    tracing::warn!(plugin = %plugin, digest, reason, "the file is not active");
                }
                self.start_stored(plugin, &stored).await
            }
            (None, Some(file)) => self.start_file(plugin, file).await,
            (None, None) => Err(DeployError::UnknownPlugin),
        }
    }

    async fn start_file(&self, plugin: &PluginName, file: &[u8]) -> Result<Deployed, DeployError> {
        let done = self.deploy_locked(plugin, file, "file", None).await;
        let stored = match &done {
            Err(DeployError::Rejected(_)) if self.services.find(plugin).is_none() => {
                self.stored_instead(plugin, "").await?
            }
            _ => None,
        };
        let Some(stored) = stored else { return done };
        let rejected = self.services.rejection(plugin);
        let started = self.start_stored(plugin, &stored).await?;
        if let Some(rejected) = rejected {
            self.services.reject(plugin, rejected);
        }
        Ok(started)
    }

    async fn start_stored(&self, plugin: &PluginName, stored: &[u8]) -> Result<Deployed, DeployError> {
        let digest = digest_of(stored);
        let started = self.deploy_locked(plugin, stored, "start", Some(&digest)).await;
        match started {
            Err(DeployError::Rejected(reason)) if self.services.find(plugin).is_none() => {
                let reason = cannot_run(&digest, &reason);
                log_suspension(plugin, &reason);
                self.not_running(plugin, Some(stored), &digest, (Cause::Refused, &reason)).await;
                Err(DeployError::Rejected(reason))
            }
            started => started,
        }
    }

    /// The active component, when `file` is empty or another one that the registry knows already.
    pub(super) async fn stored_instead(
        &self,
        plugin: &PluginName,
        file: &str,
    ) -> Result<Option<Vec<u8>>, DeployError> {
        // Deploying the file reports what is wrong with the policy.
        let Ok(Some(policy)) = self.policy_file(plugin).await else { return Ok(None) };
        let pool = self.databases.get(&policy.database.name).admin;
        let activations = match registry::activations(&pool, plugin, file).await {
            Ok(activations) => activations,
            Err(error) => return Err(self.databases.refusal(&policy, error).await),
        };
        match activations.active {
            Some(active) if active != file && (activations.known || file.is_empty()) => {
                let stored = registry::stored_version(&pool, plugin, &active).await.map_err(environment)?;
                Ok(stored.map(|stored| stored.body))
            }
            _ => Ok(None),
        }
    }

    /// Stops running a plugin on this host, since it cannot run the active version. The older version must
    /// not continue: hosts that can run the active one take over the partitions.
    pub(super) async fn suspend(&self, plugin: &PluginName, digest: &str, reason: &str) {
        let reason = cannot_run(digest, reason);
        let is_new = match self.services.find(plugin) {
            Some(service) => {
                let before = service.versions.suspended();
                service.versions.suspend(reason.clone());
                before.is_none()
            }
            None => {
                let before = self.services.awaited().remove(plugin);
                self.not_running(plugin, None, digest, (Cause::Refused, &reason)).await;
                before.is_none_or(|before| before.digest != digest)
            }
        };
        if is_new {
            log_suspension(plugin, &reason);
        }
    }
}

fn cannot_run(digest: &str, reason: &str) -> String {
    format!("{} is the active version and cannot run here: {reason}", short(digest))
}

fn log_suspension(plugin: &PluginName, reason: &str) {
    tracing::error!(
        plugin = %plugin,
        reason,
        "plugin suspended: only other hosts handle its partitions and requests"
    );
}
