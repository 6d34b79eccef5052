//! The versions of one plugin on this host: the active one, those that drain, and whether the plugin is
//! suspended here.

use std::{sync::Arc, time::SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    draining::{Draining, SagaVersion},
    loader::Loader,
    rollback_guard::{self, LaneKind, RollbackRequests},
    running::Running,
};
use crate::model::policy::InFlight;

/// The versions of one plugin. Lanes, ingress and the host API read them; only rollout changes them.
#[derive(Debug)]
pub struct PluginVersions {
    plugin: String,
    active: ArcSwap<Running>,
    suspended: ArcSwapOption<String>,
    draining: Draining,
    loader: Loader,
    rollback_requests: RollbackRequests,
}

impl PluginVersions {
    /// The state in which `active` runs and no version drains. [`Self::failed`] sends rollback requests to
    /// `rollback_requests`.
    #[must_use]
    pub fn new(active: Running, loader: Loader, rollback_requests: RollbackRequests) -> Self {
        loader.note_sole_writer(&active);
        Self {
            plugin: active.version.plugin.clone(),
            active: ArcSwap::from_pointee(active),
            suspended: ArcSwapOption::empty(),
            draining: Draining::default(),
            loader,
            rollback_requests,
        }
    }

    /// The version that handles new work. It changes between two units, never within one.
    #[must_use]
    pub fn active(&self) -> Arc<Running> {
        self.active.load_full()
    }

    /// Makes `next` the active version. The previous one drains: it finishes the sagas that it started.
    pub fn activate(&self, next: Running) {
        let previous = self.active.load_full();
        let digest = next.version.digest.clone();
        if previous.version.digest != digest {
            self.draining.add(previous, SystemTime::now());
        }
        self.loader.note_sole_writer(&next);
        self.active.store(Arc::new(next));
        // After the store: until then the sagas of `next` find it among the draining versions.
        self.draining.restore(&digest);
    }

    /// Why this host cannot run the version that another host has activated. While there is a reason, the
    /// host reads no partition of the plugin and answers none of its requests.
    #[must_use]
    pub fn suspended(&self) -> Option<Arc<String>> {
        self.suspended.load_full()
    }

    /// Stops running the plugin on this host, for `reason`.
    pub fn suspend(&self, reason: String) {
        self.suspended.store(Some(Arc::new(reason)));
    }

    /// Ends [`Self::suspend`].
    pub fn resume(&self) {
        self.suspended.store(None);
    }

    /// The versions that drain.
    #[must_use]
    pub fn draining(&self) -> &Draining {
        &self.draining
    }

    /// The active version and those that drain.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Running>> {
        let draining = self.draining.all();
        let draining = draining.iter().map(|drain| drain.running.clone());
        std::iter::once(self.active()).chain(draining).collect()
    }

    /// The version that handles a saga which stays with `digest`, while `active` is the active one.
    #[must_use]
    pub fn for_saga(&self, active: &Arc<Running>, digest: &str) -> SagaVersion {
        if digest == active.version.digest || active.version.policy.rollout.in_flight == InFlight::Move {
            return SagaVersion::Ready(active.clone());
        }
        self.draining.find(digest, active)
    }

    /// Whether a saga that stays with `digest` waits for a version that is not loaded.
    #[must_use]
    pub fn must_load(&self, active: &Arc<Running>, digest: &str) -> bool {
        matches!(self.for_saga(active, digest), SagaVersion::NotLoaded)
    }

    /// Loads a version that sagas in flight stay with, or records why it cannot run.
    ///
    /// # Errors
    /// Postgres or Kafka is unreachable.
    pub async fn load_draining(&self, digest: &str) -> anyhow::Result<()> {
        self.loader.load_draining(&self.plugin, digest, &self.draining).await
    }

    /// Counts one delivery or request that failed alone, by the plugin's fault. Requests a rollback when the
    /// version has failed too often in a row.
    pub fn failed(&self, version: &Running, kind: LaneKind, reason: &str) {
        rollback_guard::failed(&self.plugin, &self.rollback_requests, version, kind, reason);
    }
}
