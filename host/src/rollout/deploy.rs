//! Deploying: from a component's bytes to the active version, which lanes read between two units.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{Rollout, service::Service, services::Rejected};
use crate::{
    ingress::http::router,
    model::{
        manifest::Subscription,
        plugin_name::PluginName,
        policy::{InFlight, Policy},
        rejection::Rejection,
    },
    plugin::version::Version,
    store::ProvisionError,
    versions::{
        draining::SagaVersion,
        registry,
        running::{Counters, Running},
    },
};

/// What a deployment did.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// SHA-256 of the active component, lower-case hex.
    pub digest: String,
    /// The version number that the plugin gives.
    pub version: String,
    /// Counts activations, from 1.
    pub generation: i64,
    /// The digest that was active until then.
    pub was: Option<String>,
    /// Sagas in flight that stay with earlier versions.
    pub stay: i64,
}

/// Why a deployment changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeployError {
    /// The component of this digest is already active.
    #[error("{0} is already active")]
    SameDigest(String),
    /// No plugin of this name runs.
    #[error("no plugin of this name runs")]
    UnknownPlugin,
    /// The version asked for does not exist, or another version was activated meanwhile.
    #[error("{0}")]
    Conflict(String),
    /// What is wrong with the component.
    #[error("{0}")]
    Rejected(String),
    /// Postgres, Kafka or the disk failed.
    #[error("{0}")]
    Environment(String),
}

impl From<Rejection> for DeployError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection.0)
    }
}

impl From<ProvisionError> for DeployError {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Postgres(error) => Self::Environment(error.to_string()),
            postponed @ ProvisionError::MigrationPostponed { .. } => Self::Environment(postponed.to_string()),
            other => Self::Rejected(other.to_string()),
        }
    }
}

/// SHA-256 of a component, lower-case hex.
#[must_use]
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(super) fn environment(error: impl Into<anyhow::Error>) -> DeployError {
    DeployError::Environment(format!("{:#}", error.into()))
}

/// A short form of a digest, for people.
pub(super) fn short(digest: &str) -> String {
    format!("{}…", digest.get(..6).unwrap_or(digest))
}

/// A component on its way to activation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) plugin: &'a PluginName,
    pub(super) bytes: &'a [u8],
    /// SHA-256 of `bytes`.
    pub(super) digest: &'a str,
    /// Who activates it, for the registry.
    pub(super) by: &'a str,
    /// For a version that the registry stores already: the digest that it replaces, and only that one.
    pub(super) instead_of: Option<&'a str>,
}

impl Rollout {
    /// Checks a component and activates it. Lanes use it from their next unit on.
    ///
    /// # Errors
    /// Why the active version does not change. Rejections are stored for the host API.
    pub async fn deploy(&self, plugin: &PluginName, bytes: &[u8], by: &str) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        self.deploy_locked(plugin, bytes, by, None).await
    }

    /// [`Self::deploy`] for a caller that holds `one_at_a_time`; `instead_of` as in [`Candidate`].
    pub(super) async fn deploy_locked(
        &self,
        plugin: &PluginName,
        bytes: &[u8],
        by: &str,
        instead_of: Option<&str>,
    ) -> Result<Deployed, DeployError> {
        let digest = digest_of(bytes);
        let done = self.try_deploy(Candidate { plugin, bytes, digest: &digest, by, instead_of }).await;
        // Where other hosts have activated this version, the plugin is suspended here; the older version does
        // not stay active.
        let stays_active = instead_of != Some(&*digest);
        self.report(plugin, digest, &done, stays_active);
        done
    }

    /// Logs the outcome of a deployment, and stores a rejection for the host API. The caller reports that
    /// Postgres or Kafka failed, because it may try again.
    fn report(
        &self,
        plugin: &PluginName,
        digest: String,
        done: &Result<Deployed, DeployError>,
        stays_active: bool,
    ) {
        match done {
            Ok(deployed) => {
                self.services.accept(plugin);
                let Deployed { digest, version, generation, was, stay } = deployed;
                let sagas_stay = (*stay > 0).then_some(stay);
                tracing::info!(plugin = %plugin, version, digest, generation, was, sagas_stay, "plugin active");
            }
            // The policy that caused an earlier rejection of this digest has been replaced.
            Err(DeployError::SameDigest(_)) => self.services.accept_digest(plugin, &digest),
            Err(DeployError::UnknownPlugin | DeployError::Conflict(_) | DeployError::Environment(_)) => {}
            Err(DeployError::Rejected(reason)) => {
                let service = self.services.find(plugin).filter(|_| stays_active);
                let stays = service.map_or_else(String::new, |service| {
                    format!(" {} stays active.", short(&service.versions.active().version.digest))
                });
                let end = if reason.ends_with(['.', '?']) { "" } else { "." };
                let shown = format!("{reason}{end}{stays}");
                let before = self.services.rejection(plugin);
                // While another trouble is retried, the same rejection comes again.
                if before.is_none_or(|before| before.digest != digest || before.reason != *reason) {
                    tracing::warn!(plugin = %plugin, digest, reason = shown, "plugin rejected");
                }
                let at = SystemTime::now();
                self.services.reject(plugin, Rejected { digest, reason: reason.clone(), at });
            }
        }
    }

    async fn try_deploy(&self, candidate: Candidate<'_>) -> Result<Deployed, DeployError> {
        let Candidate { plugin, bytes, digest, .. } = candidate;
        let service = self.services.find(plugin);
        let policy = self.policy(plugin, bytes).await?;
        let active = service.as_ref().map(|service| service.versions.active());
        if let Some(active) = &active
            && active.version.digest == digest
            && active.version.policy.digest == policy.digest
        {
            return Err(DeployError::SameDigest(digest.to_owned()));
        }
        let draining = service.as_ref().map(|service| service.versions.draining());
        let version = match draining.and_then(|draining| draining.under(digest, &policy.digest)) {
            Some(version) => version,
            None => Arc::new(Version::load(&self.launcher.engine, plugin, bytes, Arc::new(policy)).await?),
        };
        self.check_against_others(&version)?;
        let stay = self.check_in_flight(&version, candidate.instead_of.is_some()).await?;
        self.databases.provision(&version).await?;
        self.ensure_topics(&version).await?;
        let was = active.map(|active| active.version.digest.clone());
        self.activate_version(candidate, service, version, was, stay).await
    }

    /// Records the activation in the registry, then makes the version active on this host.
    async fn activate_version(
        &self,
        candidate: Candidate<'_>,
        service: Option<Arc<Service>>,
        version: Arc<Version>,
        was: Option<String>,
        stay: i64,
    ) -> Result<Deployed, DeployError> {
        let Candidate { plugin, bytes, digest, by, instead_of } = candidate;
        let database = self.databases.get(&version.policy.database.name);
        let recorded = registry::activate(&database.admin, &version, bytes, by, instead_of).await;
        let Some(registry::Activation { generation, since, first_since }) = recorded.map_err(environment)?
        else {
            return Err(DeployError::Conflict(format!(
                "another version of {plugin} was activated meanwhile"
            )));
        };
        let deployed = Deployed {
            digest: digest.to_owned(),
            version: version.manifest.version.clone(),
            generation,
            was,
            stay,
        };
        let active = Running { version, generation, since, first_since, counters: Counters::default() };
        match service {
            Some(service) => service.versions.activate(active),
            None => {
                let launched = self.launcher.launch(plugin, database, active).await.map_err(environment)?;
                self.services.add(launched);
            }
        }
        self.services.rebuild_routes().map_err(|error| DeployError::Rejected(error.to_string()))?;
        Ok(deployed)
    }

    /// The operator's policy. In development, a missing one is written with what the plugin asks for.
    async fn policy(&self, plugin: &PluginName, bytes: &[u8]) -> Result<Policy, DeployError> {
        if let Some(policy) = self.policy_file(plugin).await? {
            return Ok(policy);
        }
        let path = self.policy_path(plugin);
        let suggested = Policy::suggested(&Version::describe(&self.launcher.engine, plugin, bytes).await?);
        if !self.write_policies {
            return Err(DeployError::Rejected(format!(
                "there is no policy {}. To print one that grants all that the plugin asks for: saga-host \
                 check {plugin}.wasm",
                path.display()
            )));
        }
        let policy = Policy::parse(plugin, &suggested)?;
        tokio::fs::write(&path, &suggested).await.map_err(environment)?;
        tracing::info!(plugin = %plugin, "policy written to {}; review what it grants", path.display());
        Ok(policy)
    }

    pub(super) fn policy_path(&self, plugin: &PluginName) -> PathBuf {
        self.folder.join(format!("{plugin}.toml"))
    }

    /// The policy of a plugin; none when it has no file.
    pub(super) async fn policy_file(&self, plugin: &PluginName) -> Result<Option<Policy>, DeployError> {
        let path = self.policy_path(plugin);
        // To open a named pipe would wait for its writer.
        if tokio::fs::metadata(&path).await.is_ok_and(|found| !found.is_file()) {
            return Err(DeployError::Rejected(format!("{} is not a file", path.display())));
        }
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => Ok(Some(Policy::parse(plugin, &text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DeployError::Rejected(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Checks that each route and saga type has one owner, and that the policy still names the same database,
    /// role and group.
    fn check_against_others(&self, version: &Arc<Version>) -> Result<(), DeployError> {
        for other in self.services.all().iter().filter(|service| service.name().as_str() != version.plugin) {
            let theirs = other.versions.running();
            let owned =
                |name: &&String| theirs.iter().any(|running| running.version.manifest.sagas.contains(name));
            if let Some(taken) = version.manifest.sagas.iter().find(owned) {
                return Err(DeployError::Rejected(format!(
                    "{} owns the saga type {taken}; choose another name",
                    other.name()
                )));
            }
        }
        router::collides(&self.services.endpoints(), &version.plugin, &version.manifest.routes)
            .map_err(|error| DeployError::Rejected(error.to_string()))?;
        let Some(service) = self.services.find(&version.plugin) else { return Ok(()) };
        let (old, new) = (&service.versions.active().version.policy, &version.policy);
        let place = |policy: &Policy| {
            (policy.database.name.clone(), policy.database.role.clone(), policy.kafka.group.clone())
        };
        if place(old) == place(new) {
            return Ok(());
        }
        Err(DeployError::Rejected(
            "the policy names another database, role or group: restart the host to change these".into(),
        ))
    }

    /// Sagas in flight get their answers from the topics that their versions read, so a new version must not
    /// stop reading one of them. A rollback may, since it must always be possible. Returns how many sagas
    /// stay with earlier versions.
    async fn check_in_flight(&self, version: &Version, is_rollback: bool) -> Result<i64, DeployError> {
        if version.policy.rollout.in_flight == InFlight::Move {
            return Ok(0);
        }
        let (plugin, pool) = (&version.plugin, self.databases.get(&version.policy.database.name).admin);
        let in_flight = registry::in_flight(&pool, plugin).await.map_err(environment)?;
        let mut stay = 0;
        for (digest, sagas) in in_flight.into_iter().filter(|(digest, _)| *digest != version.digest) {
            stay += sagas;
            let theirs = self.subscriptions(&pool, plugin, &digest).await?;
            let reads = &version.manifest.subscriptions;
            let Some(missing) = theirs.iter().find(|subscription| !reads.contains(subscription)) else {
                continue;
            };
            let reason = format!(
                "{sagas} sagas in flight stay with {}, which reads {} differently from this version. Deploy \
                 it when they have ended (saga-host plugins shows how many are left), or set \
                 in_flight = \"move\" under [rollout]",
                short(&digest),
                missing.topic
            );
            if !is_rollback {
                return Err(DeployError::Rejected(reason));
            }
            tracing::warn!(plugin, digest, reason, "sagas in flight may get no answers");
        }
        Ok(stay)
    }

    /// What an earlier version reads. Empty when it cannot be loaded or the rollback guard has withdrawn it:
    /// then the new version handles its sagas.
    async fn subscriptions(
        &self,
        pool: &PgPool,
        plugin: &str,
        digest: &str,
    ) -> Result<Vec<Subscription>, DeployError> {
        let of = |version: &Version| version.manifest.subscriptions.clone();
        if let Some(service) = self.services.find(plugin)
            && let SagaVersion::Ready(running) = service.versions.for_saga(&service.versions.active(), digest)
        {
            return Ok(of(&running.version));
        }
        if registry::withdrawn(pool, plugin, digest).await.map_err(environment)? {
            return Ok(Vec::new());
        }
        let Some(stored) = registry::stored_version(pool, plugin, digest).await.map_err(environment)? else {
            return Ok(Vec::new());
        };
        let Ok(policy) = Policy::parse(plugin, &stored.policy) else { return Ok(Vec::new()) };
        let loaded = Version::load(&self.launcher.engine, plugin, &stored.body, Arc::new(policy)).await;
        Ok(loaded.map_or_else(|_reported_when_a_saga_needs_it| Vec::new(), |version| of(&version)))
    }

    async fn ensure_topics(&self, version: &Version) -> Result<(), DeployError> {
        let read = version.manifest.subscriptions.iter().map(|subscription| subscription.topic.clone());
        self.launcher.topics.ensure(read.collect()).await.map_err(environment)?;
        let agreed = self.launcher.agreed_topics(&self.databases.get(&version.policy.database.name));
        agreed.ensure(version.manifest.publishes.clone()).await.map_err(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::{DeployError, ProvisionError};

    #[test]
    fn only_what_fails_again_is_a_rejection() {
        let (owner, name) = ("host".to_owned(), "0001_base.sql".to_owned());
        let source = || sqlx::Error::PoolClosed;
        let postponed = ProvisionError::MigrationPostponed {
            owner: owner.clone(),
            name: name.clone(),
            source: source(),
            advice: ", wait",
        };
        let shown = postponed.to_string();
        assert!(matches!(DeployError::from(postponed), DeployError::Environment(reason) if reason == shown));
        let failed = ProvisionError::MigrationFailed { owner, name, source: source() };
        assert!(matches!(DeployError::from(failed), DeployError::Rejected(_)));
    }
}
