//! Versions that a database keeps: going back to one, beginning with the one that is active, and taking over what
//! another host has activated.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use super::{
    DeployError, Deployed, Shared,
    deploy::{digest_of, environment, short},
    shared::Rejected,
};
use crate::{lane::breaker::Trip, plugin::registry, service::Service};

/// How often the databases are asked what other hosts have activated.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Before a version that Postgres or Kafka kept from being taken over is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Longer than [`FOLLOW_EVERY`] and a unit.
const REDRIVE_AFTER: Duration = Duration::from_secs(1);
const CHOICES_SHOWN_MAX: usize = 5;

impl Shared {
    /// Activates a version that is kept, by its digest or the start of it.
    ///
    /// # Errors
    /// As [`Shared::deploy`]; [`DeployError::Conflict`] when there is none of this name, or several.
    pub async fn activate(self: &Arc<Self>, name: &str, start: &str, by: &str) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let pool = self.service(name).ok_or(DeployError::UnknownPlugin)?.database.admin.clone();
        let kept = registry::kept(&pool, name).await.map_err(environment)?;
        let named: Vec<&String> = kept.iter().filter(|digest| digest.starts_with(start)).collect();
        match named.as_slice() {
            [digest] => self.activate_kept(name, digest, by, None).await,
            [] => Err(DeployError::Conflict(format!("no version {start} of {name} is kept{}", choice(&kept)))),
            _ => {
                Err(DeployError::Conflict(format!("several versions of {name} begin with {start:?}{}", choice(&kept))))
            }
        }
    }

    /// Activates the version before the active one.
    ///
    /// # Errors
    /// As [`Shared::activate`].
    pub async fn roll_back(self: &Arc<Self>, name: &str, by: &str) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let pool = self.service(name).ok_or(DeployError::UnknownPlugin)?.database.admin.clone();
        // This host may not have taken it over.
        let active = registry::standing(&pool, name, "").await.map_err(environment)?.active.unwrap_or_default();
        match registry::before(&pool, name, &active).await.map_err(environment)? {
            Some(digest) => self.activate_kept(name, &digest, by, Some(&active)).await,
            None => {
                let kept = registry::kept(&pool, name).await.map_err(environment)?;
                let others: Vec<String> = kept.into_iter().filter(|digest| *digest != active).collect();
                let others = choice(&others);
                Err(DeployError::Conflict(format!("no version of {name} before {} is kept{others}", short(&active))))
            }
        }
    }

    async fn activate_kept(
        self: &Arc<Self>,
        name: &str,
        digest: &str,
        by: &str,
        instead_of: Option<&str>,
    ) -> Result<Deployed, DeployError> {
        let pool = self.service(name).ok_or(DeployError::UnknownPlugin)?.database.admin.clone();
        match registry::kept_version(&pool, name, digest).await.map_err(environment)? {
            Some(kept) => self.deploy_one(name, &kept.body, by, instead_of).await,
            None => Err(DeployError::Conflict(format!("{name} {} is kept no longer", short(digest)))),
        }
    }

    /// What a plugin begins with: its file, unless the database knows that file and another version
    /// is active. A file must not undo a rollback.
    pub(super) async fn begin(self: &Arc<Self>, name: &str, file: Option<Vec<u8>>) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let digest = file.as_deref().map(digest_of).unwrap_or_default();
        let kept = match self.kept_instead(name, &digest).await {
            Ok(kept) => kept,
            Err(error) => {
                let done = Err(error);
                self.tell(name, digest, &done);
                return done;
            }
        };
        match (kept, file) {
            (Some(kept), file) => {
                if file.is_some() {
                    let to = digest.get(..12).unwrap_or_default();
                    let reason =
                        format!("another version was activated since; to have it: saga-host rollback {name} --to {to}");
                    tracing::warn!(plugin = name, digest, reason, "its file is not active");
                }
                self.deploy_one(name, &kept, "start", Some(&digest_of(&kept))).await
            }
            (None, Some(file)) => self.deploy_one(name, &file, "file", None).await,
            (None, None) => Err(DeployError::UnknownPlugin),
        }
    }

    /// The active component, when the file is not it and is no news.
    async fn kept_instead(&self, name: &str, file: &str) -> Result<Option<Vec<u8>>, DeployError> {
        // What is wrong with a policy is said when the file is deployed.
        let Ok(Some(policy)) = self.policy_file(name).await else { return Ok(None) };
        let pool = self.server.database(&policy.database.name).admin;
        let standing = registry::standing(&pool, name, file).await.map_err(environment)?;
        match standing.active {
            Some(active) if active != file && (standing.known || file.is_empty()) => {
                let kept = registry::kept_version(&pool, name, &active).await.map_err(environment)?;
                Ok(kept.map(|kept| kept.body))
            }
            _ => Ok(None),
        }
    }

    /// Takes over what other hosts activate, until the host stops.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut refused: HashMap<String, Refused> = HashMap::new();
        let stop = self.stops.listeners.clone();
        while stop.run_until_cancelled(tokio::time::sleep(FOLLOW_EVERY)).await.is_some() {
            for service in self.services() {
                self.follow_one(&service.name, &mut refused).await;
            }
        }
    }

    async fn follow_one(self: &Arc<Self>, name: &str, refused: &mut HashMap<String, Refused>) {
        let Ok(elsewhere) = self.activated_elsewhere(name).await else { return };
        let Some(digest) = elsewhere else {
            if refused.remove(name).is_some() {
                self.is_behind(name, None);
            }
            return;
        };
        let waits =
            |before: &Refused| before.digest == digest && before.until.is_none_or(|until| Instant::now() < until);
        if refused.get(name).is_some_and(waits) {
            return;
        }
        let _one_at_a_time = self.deploying.lock().await;
        // Meanwhile this host's own deployment may have ended.
        if self.activated_elsewhere(name).await.ok().flatten().as_ref() != Some(&digest) {
            return;
        }
        let until = match self.activate_kept(name, &digest, "another host", Some(&digest)).await {
            Ok(_) => {
                self.is_behind(name, None);
                return;
            }
            Err(DeployError::SameDigest(_) | DeployError::Conflict(_)) => return,
            Err(DeployError::Environment(_)) => Some(Instant::now() + AGAIN_AFTER),
            Err(DeployError::Rejected(reason)) => {
                self.is_behind(
                    name,
                    Some(format!("{} is active on other hosts and cannot run here: {reason}", short(&digest))),
                );
                None
            }
            Err(DeployError::UnknownPlugin) => None,
        };
        refused.insert(name.to_owned(), Refused { digest, until });
    }

    /// With a reason, the plugin stands still here: the older version must not go on, and the hosts that can run the newer
    /// one take its partitions.
    fn is_behind(&self, name: &str, reason: Option<String>) {
        let Some(service) = self.service(name) else { return };
        if let Some(reason) = &reason {
            tracing::error!(
                plugin = name,
                reason,
                "plugin stands still: its partitions and requests are for other hosts"
            );
        }
        service.behind.store(reason.map(Arc::new));
    }

    /// The active digest of a plugin, when it is not the one that runs here. An error tells nothing of either.
    async fn activated_elsewhere(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(service) = self.service(name) else { return Ok(None) };
        let standing = registry::standing(&service.database.admin, name, "").await;
        let active = standing.inspect_err(|error| tracing::debug!(plugin = name, "{error:#}"))?.active;
        Ok(active.filter(|active| *active != service.active.load().version.digest))
    }

    /// Puts the version before back whenever a lane tells that the active one must go, until the host stops.
    pub(super) async fn put_back(self: Arc<Self>, mut tripped: UnboundedReceiver<Trip>) {
        let stop = self.stops.listeners.clone();
        while let Some(Some(trip)) = stop.run_until_cancelled(tripped.recv()).await {
            let Some(service) = self.service(&trip.plugin) else { continue };
            let active = service.active.load_full();
            if active.version.digest != trip.digest {
                continue;
            }
            if let Err(error) = self.put_back_one(&service, &trip).await {
                let reason = format!("{}; it cannot be put back: {error}", trip.reason);
                tracing::error!(plugin = trip.plugin, digest = trip.digest, reason, "plugin stays active");
                continue;
            }
            // By then no host runs it any more, and what it held is there to be tried again.
            tokio::time::sleep(REDRIVE_AFTER).await;
            if let Err(error) = registry::redrive(&service.database.admin, &trip.plugin, active.since).await {
                tracing::error!(plugin = trip.plugin, reason = format!("{error:#}"), "what it held must be redriven");
            }
        }
    }

    async fn put_back_one(self: &Arc<Self>, service: &Service, trip: &Trip) -> Result<(), DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (name, pool) = (&trip.plugin, &service.database.admin);
        let before = registry::before(pool, name, &trip.digest).await.map_err(environment)?;
        let before = before.ok_or_else(|| DeployError::Conflict("no version before it is kept".into()))?;
        self.activate_kept(name, &before, registry::BREAKER, Some(&trip.digest)).await?;
        service.draining.withdraw(&trip.digest);
        let reason = format!("{}; {} is active again", trip.reason, short(&before));
        tracing::error!(plugin = name, digest = trip.digest, reason, "plugin put back");
        let rejected = Rejected { digest: trip.digest.clone(), reason, at: SystemTime::now(), waits: false };
        self.rejected.write().insert(name.clone(), rejected);
        Ok(())
    }
}

/// A version of another host that cannot be taken over.
struct Refused {
    digest: String,
    /// None: as long as it is the active one.
    until: Option<Instant>,
}

/// The versions that can be named, the last active first.
fn choice(kept: &[String]) -> String {
    let shown: Vec<String> = kept.iter().take(CHOICES_SHOWN_MAX).map(|digest| short(digest)).collect();
    if shown.is_empty() { String::new() } else { format!("; name one of {}", shown.join(", ")) }
}
