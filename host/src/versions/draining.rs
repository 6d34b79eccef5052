//! Versions that are no longer active and still handle the sagas that stay with them (`in_flight = "pin"`). A
//! version drains when another one becomes active, or when a saga needs a version that this host does not
//! run. It is dropped when its last saga has ended; a saga that needs it later loads it again.
//!
//! A version that the rollback guard has replaced is withdrawn: it would fail on its own sagas, too. The
//! active version handles them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::running::Running;
use crate::plugin::version::Version;

/// How long a version that cannot be loaded is refused, before it is tried again.
pub const REFUSED_FOR: Duration = Duration::from_secs(30);

/// A version that drains.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The version.
    pub running: Arc<Running>,
    /// When this host learned that it is no longer active.
    pub since: SystemTime,
    late_reported: Arc<AtomicBool>,
}

impl Drain {
    /// True once: the first time that draining takes longer than the policy's `drain_s_max`.
    pub fn is_late_for_the_first_time(&self) -> bool {
        let most = Duration::from_secs(u64::from(self.running.version.policy.rollout.drain_s_max));
        self.since.elapsed().is_ok_and(|since| since > most)
            && !self.late_reported.swap(true, Ordering::Relaxed)
    }
}

/// The state on this host of the version that a saga stays with.
#[derive(Debug)]
pub enum SagaVersion {
    /// It runs.
    Ready(Arc<Running>),
    /// It cannot run, for this reason.
    Refused(String),
    /// It must be loaded first.
    NotLoaded,
}

/// The versions of one plugin that drain.
#[derive(Debug, Default)]
pub struct Draining {
    versions: ArcSwap<Vec<Drain>>,
    refused: Mutex<HashMap<String, (String, Instant)>>,
    withdrawn: Mutex<HashSet<String>>,
}

impl Draining {
    /// The version that handles the sagas of `digest`, which is not the digest of `active`.
    pub fn find(&self, digest: &str, active: &Arc<Running>) -> SagaVersion {
        if self.withdrawn.lock().contains(digest) {
            return SagaVersion::Ready(active.clone());
        }
        let versions = self.versions.load();
        if let Some(drain) = versions.iter().find(|drain| drain.running.version.digest == digest) {
            return SagaVersion::Ready(drain.running.clone());
        }
        match self.refused.lock().get(digest) {
            Some((reason, at)) if at.elapsed() < REFUSED_FOR => SagaVersion::Refused(reason.clone()),
            _ => SagaVersion::NotLoaded,
        }
    }

    /// The draining version of this digest and policy. It becomes active without being loaded again.
    pub fn under(&self, digest: &str, policy: &str) -> Option<Arc<Version>> {
        let versions = self.versions.load();
        let mut loaded = versions.iter().map(|drain| &drain.running.version);
        loaded.find(|version| version.digest == digest && version.policy.digest == policy).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Arc<Vec<Drain>> {
        self.versions.load_full()
    }

    /// Adds a version that drains from `since` on.
    pub fn add(&self, running: Arc<Running>, since: SystemTime) {
        self.refused.lock().remove(&running.version.digest);
        let drain = Drain { running, since, late_reported: Arc::default() };
        self.change(|versions| {
            versions.retain(|other| other.running.version.digest != drain.running.version.digest);
            versions.push(drain.clone());
        });
    }

    /// Removes a version that the rollback guard has replaced.
    pub fn withdraw(&self, digest: &str) {
        self.withdrawn.lock().insert(digest.to_owned());
        self.remove(digest);
    }

    /// Removes a version that is active again, and forgets that it was withdrawn or refused.
    pub fn restore(&self, digest: &str) {
        self.withdrawn.lock().remove(digest);
        self.remove(digest);
    }

    /// Removes a version that has no sagas left.
    pub fn remove(&self, digest: &str) {
        self.change(|versions| versions.retain(|drain| drain.running.version.digest != digest));
    }

    /// Records that a version cannot be loaded.
    pub fn refuse(&self, digest: &str, reason: String) {
        self.refused.lock().insert(digest.to_owned(), (reason, Instant::now()));
    }

    fn change(&self, change: impl Fn(&mut Vec<Drain>)) {
        self.versions.rcu(|versions| {
            let mut versions = Vec::clone(versions);
            change(&mut versions);
            versions
        });
    }
}
