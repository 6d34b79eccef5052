//! Versions that a database keeps: going back to one, beginning with the one that is active, and taking over
//! what another host has activated.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::PgPool;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use super::{
    deploy::{DeployError, Deployed, digest_of, environment, short},
    service::Service,
    shared::{Rejected, Shared},
};
use crate::versions::{registry, rollback_guard::Trip};

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
    pub async fn activate(
        self: &Arc<Self>,
        name: &str,
        start: &str,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (pool, active) = self.active_anywhere(name).await?;
        let kept = registry::stored_digests(&pool, name).await.map_err(environment)?;
        let named: Vec<&String> = kept.iter().filter(|digest| digest.starts_with(start)).collect();
        match named.as_slice() {
            [digest] => self.activate_kept(&pool, name, digest, by, &active).await,
            [] => {
                Err(DeployError::Conflict(format!("no version {start} of {name} is kept{}", choice(&kept))))
            }
            _ => Err(DeployError::Conflict(format!(
                "several versions of {name} begin with {start:?}{}",
                choice(&kept)
            ))),
        }
    }

    /// Activates the version before the active one.
    ///
    /// # Errors
    /// As [`Shared::activate`].
    pub async fn roll_back(self: &Arc<Self>, name: &str, by: &str) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (pool, active) = self.active_anywhere(name).await?;
        match registry::previous_digest(&pool, name, &active).await.map_err(environment)? {
            Some(digest) => self.activate_kept(&pool, name, &digest, by, &active).await,
            None => {
                let kept = registry::stored_digests(&pool, name).await.map_err(environment)?;
                let others: Vec<String> = kept.into_iter().filter(|digest| *digest != active).collect();
                let others = choice(&others);
                Err(DeployError::Conflict(format!(
                    "no version of {name} before {} is kept{others}",
                    short(&active)
                )))
            }
        }
    }

    /// The database that keeps a plugin's versions, and the digest that is active there: this host may run
    /// another one, or none.
    async fn active_anywhere(&self, name: &str) -> Result<(PgPool, String), DeployError> {
        let pool = match self.service(name) {
            Some(service) => service.database.admin.clone(),
            None => {
                let policy = self.policy_file(name).await?.ok_or(DeployError::UnknownPlugin)?;
                self.database(&policy.database.name).admin
            }
        };
        let active = registry::activations(&pool, name, "").await.map_err(environment)?.active;
        Ok((pool, active.ok_or(DeployError::UnknownPlugin)?))
    }

    async fn activate_kept(
        self: &Arc<Self>,
        pool: &PgPool,
        name: &str,
        digest: &str,
        by: &str,
        instead_of: &str,
    ) -> Result<Deployed, DeployError> {
        match registry::stored_version(pool, name, digest).await.map_err(environment)? {
            Some(kept) => self.deploy_one(name, &kept.body, by, Some(instead_of)).await,
            None => Err(DeployError::Conflict(format!("{name} {} is kept no longer", short(digest)))),
        }
    }

    /// What a plugin begins with: its file, unless the database knows that file and another version is
    /// active: a file must not undo a rollback. Nor does a bad file keep the version from running that is
    /// active.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        name: &str,
        file: Option<Vec<u8>>,
    ) -> Result<Deployed, DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let digest = file.as_deref().map(digest_of).unwrap_or_default();
        let kept = match self.kept_instead(name, &digest).await {
            Ok(kept) => kept,
            Err(error) => {
                let done = Err(error);
                self.tell(name, digest, &done, true);
                return done;
            }
        };
        match (kept, file) {
            (Some(kept), file) => {
                if file.is_some() {
                    let to = digest.get(..12).unwrap_or_default();
                    let reason = format!(
                        "another version was activated since; to have it: saga-host rollback {name} --to {to}"
                    );
                    tracing::warn!(plugin = name, digest, reason, "its file is not active");
                }
                self.begin_kept(name, &kept).await
            }
            (None, Some(file)) => {
                let done = self.deploy_one(name, &file, "file", None).await;
                let kept = match &done {
                    Err(DeployError::Rejected(_)) if self.service(name).is_none() => {
                        self.kept_instead(name, "").await?
                    }
                    _ => None,
                };
                let Some(kept) = kept else { return done };
                let rejected = self.rejected.read().get(name).cloned();
                let begun = self.begin_kept(name, &kept).await?;
                self.rejected.write().extend(rejected.map(|rejected| (name.to_owned(), rejected)));
                Ok(begun)
            }
            (None, None) => Err(DeployError::UnknownPlugin),
        }
    }

    async fn begin_kept(self: &Arc<Self>, name: &str, kept: &[u8]) -> Result<Deployed, DeployError> {
        let digest = digest_of(kept);
        let begun = self.deploy_one(name, kept, "start", Some(&digest)).await;
        if let Err(DeployError::Rejected(reason)) = &begun
            && self.service(name).is_none()
        {
            self.stand_still(name, &digest, reason);
        }
        begun
    }

    /// The active component, when the file is not it and is no news.
    async fn kept_instead(&self, name: &str, file: &str) -> Result<Option<Vec<u8>>, DeployError> {
        // What is wrong with a policy is said when the file is deployed.
        let Ok(Some(policy)) = self.policy_file(name).await else { return Ok(None) };
        let pool = self.database(&policy.database.name).admin;
        let standing = registry::activations(&pool, name, file).await.map_err(environment)?;
        match standing.active {
            Some(active) if active != file && (standing.known || file.is_empty()) => {
                let kept = registry::stored_version(&pool, name, &active).await.map_err(environment)?;
                Ok(kept.map(|kept| kept.body))
            }
            _ => Ok(None),
        }
    }

    /// Takes over what other hosts activate, until the host stops.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut refused: HashMap<String, Refused> = HashMap::new();
        let stop = self.stops.listeners.clone();
        while stop.run_until_cancelled(tokio::time::sleep(FOLLOW_EVERY)).await.is_some() {
            let mut names: BTreeSet<String> = self.rejected.read().keys().cloned().collect();
            names.extend(self.services().iter().map(|service| service.name.clone()));
            for name in names {
                self.follow_one(&name, &mut refused).await;
            }
        }
    }

    async fn follow_one(self: &Arc<Self>, name: &str, refused: &mut HashMap<String, Refused>) {
        let Ok(elsewhere) = self.activated_elsewhere(name).await else { return };
        let Some((pool, digest)) = elsewhere else {
            if refused.remove(name).is_some() {
                self.go_on(name);
            }
            return;
        };
        let waits = |before: &Refused| {
            before.digest == digest && before.until.is_none_or(|until| Instant::now() < until)
        };
        if refused.get(name).is_some_and(waits) {
            return;
        }
        let _one_at_a_time = self.deploying.lock().await;
        // Meanwhile this host's own deployment may have ended.
        let still = self.activated_elsewhere(name).await.ok().flatten();
        if still.is_none_or(|(_, active)| active != digest) {
            return;
        }
        let (until, reason) = match self.activate_kept(&pool, name, &digest, "another host", &digest).await {
            Ok(_) => return self.go_on(name),
            Err(DeployError::SameDigest(_) | DeployError::Conflict(_) | DeployError::UnknownPlugin) => return,
            Err(DeployError::Environment(reason)) => (Some(Instant::now() + AGAIN_AFTER), reason),
            Err(DeployError::Rejected(reason)) => (None, reason),
        };
        self.stand_still(name, &digest, &reason);
        refused.insert(name.to_owned(), Refused { digest, until });
    }

    /// The older version must not go on: hosts that can run the newer one take its partitions.
    fn stand_still(&self, name: &str, digest: &str, reason: &str) {
        let reason = format!("{} is the active version and cannot run here: {reason}", short(digest));
        tracing::error!(
            plugin = name,
            reason,
            "plugin stands still: its partitions and requests are for other hosts"
        );
        match self.service(name) {
            Some(service) => service.behind.store(Some(Arc::new(reason))),
            None => {
                let rejected =
                    Rejected { digest: digest.to_owned(), reason, at: SystemTime::now(), missed: true };
                self.rejected.write().insert(name.to_owned(), rejected);
            }
        }
    }

    fn go_on(&self, name: &str) {
        if let Some(service) = self.service(name) {
            service.behind.store(None);
        }
    }

    /// The database and active digest of a plugin, when that is not the version that runs here. An error
    /// tells nothing of either.
    async fn activated_elsewhere(&self, name: &str) -> Result<Option<(PgPool, String)>, DeployError> {
        let (pool, active) = match self.active_anywhere(name).await {
            Ok(found) => found,
            Err(DeployError::UnknownPlugin) => return Ok(None),
            Err(error) => {
                tracing::debug!(plugin = name, "{error}");
                return Err(error);
            }
        };
        let here = self.service(name).map(|service| service.active.load_full());
        let runs = here.is_some_and(|here| here.version.digest == active);
        Ok((!runs).then_some((pool, active)))
    }

    /// Puts the version before back whenever a lane tells that the active one must go, until the host stops.
    pub(crate) async fn put_back(self: Arc<Self>, mut tripped: UnboundedReceiver<Trip>) {
        let stop = self.stops.listeners.clone();
        while let Some(Some(trip)) = stop.run_until_cancelled(tripped.recv()).await {
            let Some(service) = self.service(&trip.plugin) else { continue };
            let active = service.active.load_full();
            if active.generation != trip.generation {
                continue;
            }
            if let Err(error) = self.put_back_one(&service, &trip).await {
                let reason = format!("{}; it cannot be put back: {error}", trip.reason);
                tracing::error!(plugin = trip.plugin, digest = trip.digest, reason, "plugin stays active");
                continue;
            }
            // By then no host runs it any more, and what it held is there to be tried again.
            tokio::time::sleep(REDRIVE_AFTER).await;
            if let Err(error) =
                registry::redrive_parked(&service.database.admin, &trip.plugin, active.since).await
            {
                tracing::error!(
                    plugin = trip.plugin,
                    reason = format!("{error:#}"),
                    "what it held must be redriven"
                );
            }
        }
    }

    async fn put_back_one(self: &Arc<Self>, service: &Service, trip: &Trip) -> Result<(), DeployError> {
        let _one_at_a_time = self.deploying.lock().await;
        let (name, pool) = (&trip.plugin, &service.database.admin);
        let before = registry::previous_digest(pool, name, &trip.digest).await.map_err(environment)?;
        let before = before.ok_or_else(|| DeployError::Conflict("no version before it is kept".into()))?;
        self.activate_kept(pool, name, &before, registry::ROLLBACK_GUARD, &trip.digest).await?;
        service.draining.withdraw(&trip.digest);
        let reason = format!("{}; {} is active again", trip.reason, short(&before));
        tracing::error!(plugin = name, digest = trip.digest, reason, "plugin put back");
        let rejected = Rejected { digest: trip.digest.clone(), reason, at: SystemTime::now(), missed: false };
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
