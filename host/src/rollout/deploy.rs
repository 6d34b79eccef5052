//! Deploying: from a component's bytes to the pointer that lanes read between two units. Whatever
//! is wrong before that leaves the old version running.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{
    service::Service,
    shared::{Provisioned, Rejected, Shared},
};
use crate::{
    ingress::http::router::{self, RouteTable},
    model::{
        manifest::Subscription,
        policy::{InFlight, Policy},
        rejection::Rejection,
    },
    plugin::version::Version,
    store::{Migrations, PluginRole, ProvisionError},
    versions::{
        draining::Found,
        registry,
        running::{Counters, Running},
    },
};

/// What a deployment did.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Active now.
    pub digest: String,
    /// As the plugin names it.
    pub version: String,
    /// Counts activations.
    pub generation: i64,
    /// Active before.
    pub was: Option<String>,
    /// Sagas in flight that stay with earlier versions.
    pub stay: i64,
}

/// Why a deployment changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeployError {
    /// It is active already.
    #[error("{0} is active already")]
    SameDigest(String),
    /// No plugin of this name runs.
    #[error("no plugin of this name runs")]
    UnknownPlugin,
    /// What was asked for is not there, or no longer what it was; why.
    #[error("{0}")]
    Conflict(String),
    /// What is wrong with the component.
    #[error("{0}")]
    Rejected(String),
    /// Postgres, Kafka or the disk.
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
            other => Self::Rejected(other.to_string()),
        }
    }
}

/// SHA-256 of a component, lower-case hex.
#[must_use]
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Shared {
    /// Validates and activates a component. Lanes take it up between two units.
    ///
    /// # Errors
    /// Why the version that was active stays; rejections are kept for the host API.
    pub async fn deploy(
        self: &Arc<Self>,
        name: &str,
        bytes: Vec<u8>,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        self.deploy_one(name, &bytes, by, None).await
    }

    /// Under the lock of `deploying`. With `instead_of`, a version that is kept already takes the place of
    /// that digest, and only of that one.
    pub(super) async fn deploy_one(
        self: &Arc<Self>,
        name: &str,
        bytes: &[u8],
        by: &str,
        instead_of: Option<&str>,
    ) -> Result<Deployed, DeployError> {
        let digest = digest_of(bytes);
        let done = self.try_deploy(name, bytes, &digest, by, instead_of).await;
        // What is active on other hosts stands still here: then the older version does not go on either.
        let goes_on = instead_of != Some(&*digest);
        self.tell(name, digest, &done, goes_on);
        done
    }

    /// Says what became of a deployment, and keeps a rejection for the host API.
    pub(super) fn tell(
        &self,
        name: &str,
        digest: String,
        done: &Result<Deployed, DeployError>,
        goes_on: bool,
    ) {
        match done {
            Ok(deployed) => {
                self.rejected.write().remove(name);
                let Deployed { digest, version, generation, was, stay } = deployed;
                let sagas_stay = (*stay > 0).then_some(stay);
                tracing::info!(plugin = name, version, digest, generation, was, sagas_stay, "plugin active");
            }
            Err(DeployError::SameDigest(_)) => {
                // It was refused under another policy, which is gone.
                self.rejected.write().retain(|of, rejected| of != name || rejected.digest != digest);
            }
            Err(DeployError::UnknownPlugin | DeployError::Conflict(_)) => {}
            Err(DeployError::Rejected(reason) | DeployError::Environment(reason)) => {
                let stays = self.service(name).filter(|_| goes_on).map_or_else(String::new, |service| {
                    format!(" {} stays active.", short(&service.active.load().version.digest))
                });
                let end = if reason.ends_with(['.', '?']) { "" } else { "." };
                tracing::warn!(
                    plugin = name,
                    digest,
                    reason = format!("{reason}{end}{stays}"),
                    "plugin rejected"
                );
                let missed = matches!(done, Err(DeployError::Environment(_)));
                let rejected = Rejected { digest, reason: reason.clone(), at: SystemTime::now(), missed };
                self.rejected.write().insert(name.to_owned(), rejected);
            }
        }
    }

    async fn try_deploy(
        self: &Arc<Self>,
        name: &str,
        bytes: &[u8],
        digest: &str,
        by: &str,
        instead_of: Option<&str>,
    ) -> Result<Deployed, DeployError> {
        let service = self.service(name);
        let policy = self.policy(name, bytes).await?;
        let active = service.as_ref().map(|service| service.active.load_full());
        if let Some(active) = &active
            && active.version.digest == digest
            && active.version.policy.digest == policy.digest
        {
            return Err(DeployError::SameDigest(digest.to_owned()));
        }
        let drains = service.as_ref().and_then(|service| service.draining.under(digest, &policy.digest));
        let version = match drains {
            Some(version) => version,
            None => Arc::new(Version::load(&self.engine, name, bytes, Arc::new(policy)).await?),
        };
        self.check_against_others(&version)?;
        let stay = self.check_in_flight(&version, instead_of.is_some()).await?;
        self.prepare(&version).await?;
        let database = self.database(&version.policy.database.name);
        let recorded = registry::activate(&database.admin, &version, bytes, by, instead_of)
            .await
            .map_err(environment)?;
        let Some(registry::Activation { generation, since, first_since }) = recorded else {
            return Err(DeployError::Conflict(format!("another version of {name} was activated meanwhile")));
        };
        let deployed = Deployed {
            digest: digest.to_owned(),
            version: version.manifest.version.clone(),
            generation,
            was: active.as_ref().map(|active| active.version.digest.clone()),
            stay,
        };
        let active = Running { version, generation, since, first_since, counters: Counters::default() };
        match service {
            Some(service) => service.activate(active),
            None => self.launch(active).await.map_err(environment)?,
        }
        self.rebuild_routes()?;
        Ok(deployed)
    }

    /// The operator's policy; in development, one made from what the plugin asks for.
    async fn policy(&self, name: &str, bytes: &[u8]) -> Result<Policy, DeployError> {
        if let Some(policy) = self.policy_file(name).await? {
            return Ok(policy);
        }
        let path = self.policy_path(name);
        let suggested = Policy::suggested(&Version::describe(&self.engine, name, bytes).await?);
        if !self.config.write_policies {
            return Err(DeployError::Rejected(format!(
                "there is no policy {}. One that grants all it asks for is printed by: saga-host check {name}.wasm",
                path.display()
            )));
        }
        tokio::fs::write(&path, &suggested).await.map_err(environment)?;
        tracing::info!(plugin = name, "policy written to {}:\n{suggested}", path.display());
        Ok(Policy::parse(name, &suggested)?)
    }

    fn policy_path(&self, name: &str) -> PathBuf {
        self.config.plugins.join(format!("{name}.toml"))
    }

    pub(super) async fn policy_file(&self, name: &str) -> Result<Option<Policy>, DeployError> {
        let path = self.policy_path(name);
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => Ok(Some(Policy::parse(name, &text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DeployError::Rejected(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Routes and saga types have one owner; where a plugin keeps its rows may not change under it.
    fn check_against_others(&self, version: &Arc<Version>) -> Result<(), DeployError> {
        let others: Vec<Arc<Service>> =
            self.services().into_iter().filter(|service| service.name != version.plugin).collect();
        for other in &others {
            let theirs = other.versions();
            let owned =
                |name: &&String| theirs.iter().any(|running| running.version.manifest.sagas.contains(name));
            if let Some(taken) = version.manifest.sagas.iter().find(owned) {
                return Err(DeployError::Rejected(format!(
                    "saga type {taken} is owned by {}; choose another name",
                    other.name
                )));
            }
        }
        router::collides(&others, &version.plugin, &version.manifest.routes)
            .map_err(|error| DeployError::Rejected(error.to_string()))?;
        if let Some(service) = self.service(&version.plugin) {
            let (old, new) = (&service.active.load().version.policy, &version.policy);
            if (&old.database.name, &old.database.role, &old.kafka.group)
                != (&new.database.name, &new.database.role, &new.kafka.group)
            {
                return Err(DeployError::Rejected(
                    "the policy names another database, role or group; that takes a restart of the host"
                        .into(),
                ));
            }
        }
        Ok(())
    }

    /// Sagas in flight are answered on what their versions read: the new one may not stop reading it, unless
    /// it goes back, which must always be possible. Gives how many sagas stay with earlier versions.
    async fn check_in_flight(&self, version: &Version, goes_back: bool) -> Result<i64, DeployError> {
        if version.policy.rollout.in_flight == InFlight::Move {
            return Ok(0);
        }
        let (name, pool) = (&version.plugin, self.database(&version.policy.database.name).admin);
        let in_flight = registry::in_flight(&pool, name).await.map_err(environment)?;
        let mut stay = 0;
        for (digest, sagas) in in_flight.into_iter().filter(|(digest, _)| *digest != version.digest) {
            stay += sagas;
            let theirs = self.reads(&pool, name, &digest).await?;
            let reads = &version.manifest.subscriptions;
            let Some(missing) = theirs.iter().find(|subscription| !reads.contains(subscription)) else {
                continue;
            };
            let reason = format!(
                "{sagas} sagas in flight stay with {}, which reads {} otherwise than this version. Deploy it when they \
                 have ended (saga-host plugins tells how many are left), or set in_flight = \"move\" under [rollout]",
                short(&digest),
                missing.topic
            );
            if !goes_back {
                return Err(DeployError::Rejected(reason));
            }
            tracing::warn!(plugin = name, digest, reason, "sagas in flight may get no answers");
        }
        Ok(stay)
    }

    /// What an earlier version reads; nothing when it cannot be loaded, or was taken away: then the new one
    /// handles its sagas.
    async fn reads(&self, pool: &PgPool, name: &str, digest: &str) -> Result<Vec<Subscription>, DeployError> {
        let of = |version: &Version| version.manifest.subscriptions.clone();
        if let Some(service) = self.service(name)
            && let Found::Ready(running) = service.version_of_saga(&service.active.load_full(), digest)
        {
            return Ok(of(&running.version));
        }
        if registry::withdrawn(pool, name, digest).await.map_err(environment)? {
            return Ok(Vec::new());
        }
        let Some(kept) = registry::stored_version(pool, name, digest).await.map_err(environment)? else {
            return Ok(Vec::new());
        };
        let Ok(policy) = Policy::parse(name, &kept.policy) else { return Ok(Vec::new()) };
        let loaded = Version::load(&self.engine, name, &kept.body, Arc::new(policy)).await;
        Ok(loaded.map_or_else(|_said_when_a_saga_needs_it| Vec::new(), |version| of(&version)))
    }

    /// Database, role, tables and topics.
    async fn prepare(&self, version: &Version) -> Result<(), DeployError> {
        let policy = &version.policy;
        let mode = policy.database.migrations.unwrap_or(self.config.migrations);
        let role = PluginRole { plugin: version.plugin.clone(), name: policy.database.role.clone() };
        let database = self.database(&policy.database.name);
        let pins = policy.rollout.in_flight == InFlight::Pin;
        let migrations =
            Migrations { all: &version.manifest.migrations, beside: pins.then_some(version.digest.as_str()) };
        let wanted = Provisioned {
            database: database.name.clone(),
            role: role.clone(),
            migrations: version.manifest.migrations.clone(),
            mode,
        };
        let in_place = self.provisioned.lock().contains(&wanted);
        if !in_place {
            self.server.provision(&database, &role, &migrations, mode).await?;
            self.provisioned.lock().insert(wanted);
        }
        let read = version.manifest.subscriptions.iter().map(|subscription| subscription.topic.clone());
        let names = read.chain(version.manifest.publishes.iter().cloned()).collect();
        self.topics.ensure(names).await.map_err(environment)
    }

    fn rebuild_routes(&self) -> Result<(), DeployError> {
        let routes =
            RouteTable::build(&self.services()).map_err(|error| DeployError::Rejected(error.to_string()))?;
        self.routes.store(Arc::new(routes));
        Ok(())
    }
}

pub(super) fn environment(error: impl Into<anyhow::Error>) -> DeployError {
    DeployError::Environment(format!("{:#}", error.into()))
}

/// The first characters of a digest, for people.
pub(super) fn short(digest: &str) -> String {
    format!("{}…", digest.get(..6).unwrap_or(digest))
}
