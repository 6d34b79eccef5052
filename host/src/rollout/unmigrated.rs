//! Migrations that are missing when a host starts with `migrations = "check"`: it refuses to start, before
//! any plugin runs.

use std::collections::BTreeMap;

use anyhow::bail;

use super::{
    Rollout,
    deploy::{DeployError, digest_of, environment},
    folder::Contents,
};
use crate::{config::MigrationsMode, model::plugin_name::PluginName, plugin::version::Version};

impl Rollout {
    /// Refuses to start while a migration of a plugin of the folder is missing, where the host's setting is
    /// `check`.
    ///
    /// # Errors
    /// One sentence that names the missing migrations of all databases.
    pub(crate) async fn refuse_unmigrated(&self, plugins: &Contents) -> anyhow::Result<()> {
        if self.databases.migrations() != MigrationsMode::Check {
            return Ok(());
        }
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (plugin, component) in plugins {
            match self.missing_migrations(plugin, component.as_deref()).await {
                Ok(None) => {}
                Ok(Some((database, names))) => {
                    let of_database = missing.entry(database).or_default();
                    let new = names.into_iter().filter(|name| !of_database.contains(name));
                    let new: Vec<String> = new.collect();
                    of_database.extend(new);
                }
                // Starting the plugin meets the same trouble, reports it, and tries again.
                Err(error) => tracing::debug!(plugin = %plugin, "{error}"),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let databases = missing.iter().map(|(database, names)| format!("{database}: {}", names.join(", ")));
        bail!(
            "the databases lack migrations ({}); start once with SAGA_HOST_MIGRATIONS=apply, or apply them by \
             hand",
            databases.collect::<Vec<_>>().join("; ")
        )
    }

    /// The database of a plugin and the migrations that it lacks; none when it lacks none, when its policy has
    /// a mode of its own, or when it has no version to start with.
    async fn missing_migrations(
        &self,
        plugin: &PluginName,
        file: Option<&[u8]>,
    ) -> Result<Option<(String, Vec<String>)>, DeployError> {
        let Some(policy) = self.policy_file(plugin).await? else { return Ok(None) };
        if policy.database.migrations.is_some_and(|mode| mode != MigrationsMode::Check) {
            return Ok(None);
        }
        let digest = file.map(digest_of).unwrap_or_default();
        let stored = self.stored_instead(plugin, &digest).await?;
        let Some(component) = stored.as_deref().or(file) else { return Ok(None) };
        let manifest = Version::describe(&self.launcher.engine, plugin, component).await?;
        let database = self.databases.get(&policy.database.name);
        let names = database.missing_migrations(plugin, &manifest.migrations).await.map_err(environment)?;
        Ok((!names.is_empty()).then_some((database.name, names)))
    }
}
