//! Activates a version that the registry stores: the previous one, or one that a person names.

use sqlx::PgPool;

use super::{
    Rollout,
    deploy::{DeployError, Deployed, environment, short},
};
use crate::{model::plugin_name::PluginName, versions::registry};

/// The most digests that an error text lists.
const CHOICES_SHOWN_MAX: usize = 5;

impl Rollout {
    /// Activates a stored version, by its digest or the start of it.
    ///
    /// # Errors
    /// As [`Rollout::deploy`]; [`DeployError::Conflict`] when no stored version, or more than one, matches.
    pub async fn activate(
        &self,
        plugin: &PluginName,
        start: &str,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let (pool, active) = self.active_anywhere(plugin).await?;
        let stored = registry::stored_digests(&pool, plugin).await.map_err(environment)?;
        let named: Vec<&String> = stored.iter().filter(|digest| digest.starts_with(start)).collect();
        let choice = choice(&stored);
        match named.as_slice() {
            [digest] => self.activate_stored(&pool, plugin, digest, by, &active).await,
            [] => Err(DeployError::Conflict(format!("no version {start} of {plugin} is stored{choice}"))),
            _ => Err(DeployError::Conflict(format!(
                "several versions of {plugin} begin with {start:?}{choice}"
            ))),
        }
    }

    /// Activates the version that was active before the present one.
    ///
    /// # Errors
    /// As [`Rollout::activate`].
    pub async fn roll_back(&self, plugin: &PluginName, by: &str) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let (pool, active) = self.active_anywhere(plugin).await?;
        if let Some(digest) = registry::previous_digest(&pool, plugin, &active).await.map_err(environment)? {
            return self.activate_stored(&pool, plugin, &digest, by, &active).await;
        }
        let stored = registry::stored_digests(&pool, plugin).await.map_err(environment)?;
        let others: Vec<String> = stored.into_iter().filter(|digest| *digest != active).collect();
        Err(DeployError::Conflict(format!(
            "no version of {plugin} before {} is stored{}",
            short(&active),
            choice(&others)
        )))
    }

    /// The database that stores a plugin's versions, and the digest that is active there. This host may run
    /// another version, or none.
    pub(super) async fn active_anywhere(&self, plugin: &PluginName) -> Result<(PgPool, String), DeployError> {
        let pool = match self.services.find(plugin) {
            Some(service) => service.backend.database.admin.clone(),
            None => {
                let policy = self.policy_file(plugin).await?.ok_or(DeployError::UnknownPlugin)?;
                self.databases.get(&policy.database.name).admin
            }
        };
        let active = registry::activations(&pool, plugin, "").await.map_err(environment)?.active;
        Ok((pool, active.ok_or(DeployError::UnknownPlugin)?))
    }

    /// Activates the stored version of this digest in place of `instead_of`. The caller holds
    /// `one_at_a_time`.
    pub(super) async fn activate_stored(
        &self,
        pool: &PgPool,
        plugin: &PluginName,
        digest: &str,
        by: &str,
        instead_of: &str,
    ) -> Result<Deployed, DeployError> {
        match registry::stored_version(pool, plugin, digest).await.map_err(environment)? {
            Some(stored) => self.deploy_locked(plugin, &stored.body, by, Some(instead_of)).await,
            None => Err(DeployError::Conflict(format!("{plugin} {} is no longer stored", short(digest)))),
        }
    }
}

/// The versions that a person can name, the most recently active first.
fn choice(stored: &[String]) -> String {
    let shown: Vec<String> = stored.iter().take(CHOICES_SHOWN_MAX).map(|digest| short(digest)).collect();
    if shown.is_empty() { String::new() } else { format!("; name one of {}", shown.join(", ")) }
}
