//! Loads a stored version that sagas in flight stay with.

use std::{sync::Arc, time::SystemTime};

use super::{
    draining::Draining,
    registry,
    running::{Counters, Running},
};
use crate::{
    claims::agreed_topics::AgreedTopics,
    model::{policy::Policy, rejection::Rejection},
    plugin::{engine::Engine, version::Version},
    relay::Relay,
    store::Database,
};

/// The parts that load a version of a plugin.
#[derive(Clone, Debug)]
pub struct Loader {
    /// The database whose registry stores the versions.
    pub database: Database,
    /// Compiles the component.
    pub engine: Engine,
    /// The partition counts of the topics that it publishes to.
    pub topics: Arc<AgreedTopics>,
    /// The relay that publishes for it.
    pub relay: Arc<Relay>,
}

impl Loader {
    /// Adds the version to `draining`, or records there why it cannot run.
    pub(super) async fn load_draining(
        &self,
        plugin: &str,
        digest: &str,
        draining: &Draining,
    ) -> anyhow::Result<()> {
        if registry::withdrawn(&self.database.admin, plugin, digest).await? {
            draining.withdraw(digest);
            return Ok(());
        }
        let loaded = match registry::stored_version(&self.database.admin, plugin, digest).await? {
            None => Err("the registry no longer stores it and its policy".to_owned()),
            Some(stored) => self.load(plugin, stored).await.map_err(|rejection| rejection.0),
        };
        match loaded {
            Ok(running) => {
                // The active version may publish to other topics, so these counts may not be known yet.
                self.topics.ensure(running.version.manifest.publishes.clone()).await?;
                self.relay.expect_records();
                tracing::info!(plugin, digest, "version draining: sagas in flight stay with it");
                draining.add(Arc::new(running), SystemTime::now());
            }
            Err(reason) => {
                let reason = format!(
                    "the saga stays with version {}, which cannot run here: {reason}. To have the active \
                     version handle it, set in_flight = \"move\" under [rollout] in {plugin}.toml",
                    digest.get(..12).unwrap_or(digest),
                );
                tracing::error!(plugin, digest, reason, "sagas in flight cannot continue");
                draining.refuse(digest, reason);
            }
        }
        Ok(())
    }

    /// The policy of an active version says which topics the relay hands over.
    pub(super) fn note_sole_writer(&self, active: &Running) {
        let version = &active.version;
        self.relay.hand_over.set_sole_writer(&version.plugin, &version.policy.kafka.sole_writer);
    }

    async fn load(&self, plugin: &str, stored: registry::StoredVersion) -> Result<Running, Rejection> {
        let policy = Arc::new(Policy::parse(plugin, &stored.policy)?);
        let version = Arc::new(Version::load(&self.engine, plugin, &stored.body, policy).await?);
        let registry::StoredVersion { generation, since, .. } = stored;
        Ok(Running { version, generation, since, first_since: since, counters: Counters::default() })
    }
}
