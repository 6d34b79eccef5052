//! One plugin as this host runs it: its versions, its database, its queues and its counters.
//! Everything that lanes, ingress and the host API share of a plugin is here and nowhere else.

use std::{sync::Arc, time::SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    ingress::{http::readers::Readers, kafka::health::Health},
    kafka::Topics,
    model::{
        delivery::Delivery,
        policy::{InFlight, Policy},
        queue::Queue,
        rejection::Rejection,
    },
    plugin::{engine::Engine, version::Version},
    relay::Relay,
    store::{Database, PluginRole},
    unit::{pending::Pending, stages::Stages, waiters::Waiters},
    versions::{
        draining::{Draining, Found},
        registry,
        rollback_guard::Trips,
        running::{Counters, Running},
    },
};

/// One plugin.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its database.
    pub database: Database,
    /// The role that its units run under.
    pub role: PluginRole,
    /// The version that new work goes to. Changed between two units, never within one.
    pub active: ArcSwap<Running>,
    /// Why this host cannot run the version that another has activated. Meanwhile it runs none: it reads
    /// nothing, and answers no request.
    pub behind: ArcSwapOption<String>,
    /// Versions that finish what they began.
    pub draining: Draining,
    /// Loads them.
    pub engine: Engine,
    /// The relay of its database.
    pub relay: Arc<Relay>,
    /// Partition counts.
    pub topics: Arc<Topics>,
    /// What waits for the Kafka lane.
    pub deliveries: Arc<Queue<Delivery>>,
    /// What waits for the HTTP lane.
    pub requests: Arc<Queue<Pending>>,
    /// Where the Kafka lane's time goes.
    pub delivery_stages: Arc<Stages>,
    /// Where the HTTP lane's time goes.
    pub request_stages: Arc<Stages>,
    /// How its reading of Kafka goes.
    pub consumer: Health,
    /// The connections of its reads.
    pub readers: Readers,
    /// Where lanes tell that the active version must go.
    pub trips: Trips,
    /// HTTP callers that wait for the end of a saga.
    pub waiters: Arc<Waiters>,
}

impl Service {
    /// Whether this host runs no version of it for now, see [`Service::behind`].
    pub fn stands_still(&self) -> bool {
        self.behind.load().is_some()
    }

    /// Makes `next` the version that new work goes to; the one before finishes the sagas that it began.
    pub fn activate(&self, next: Running) {
        let before = self.active.load_full();
        let digest = next.version.digest.clone();
        if before.version.digest != digest {
            self.draining.add(before, SystemTime::now());
        }
        self.active.store(Arc::new(next));
        // Not before: until then its sagas need it among those that drain.
        self.draining.restore(&digest);
    }

    /// The versions that run: the active one, and those that drain.
    pub fn versions(&self) -> Vec<Arc<Running>> {
        let draining = self.draining.all();
        std::iter::once(self.active.load_full())
            .chain(draining.iter().map(|drain| drain.running.clone()))
            .collect()
    }

    /// The version that handles a saga which `digest` began, under `active`.
    pub fn version_of_saga(&self, active: &Arc<Running>, digest: &str) -> Found {
        if digest == active.version.digest || active.version.policy.rollout.in_flight == InFlight::Move {
            return Found::Ready(active.clone());
        }
        self.draining.find(digest, active)
    }

    /// Whether a saga that `digest` began waits for a version that is not there.
    pub fn must_load(&self, active: &Arc<Running>, digest: &str) -> bool {
        matches!(self.version_of_saga(active, digest), Found::Unknown)
    }

    /// Makes ready a version that a saga in flight stays with, or notes why it cannot be.
    ///
    /// # Errors
    /// When Postgres or Kafka is away.
    pub async fn load_draining(&self, digest: &str) -> anyhow::Result<()> {
        if registry::withdrawn(&self.database.admin, &self.name, digest).await? {
            self.draining.withdraw(digest);
            return Ok(());
        }
        let loaded = match registry::stored_version(&self.database.admin, &self.name, digest).await? {
            None => Err("neither it nor its policy is kept any longer".to_owned()),
            Some(kept) => self.load(kept).await.map_err(|rejection| rejection.0),
        };
        match loaded {
            Ok(running) => {
                // What it publishes goes to partitions by their number, which the active version may not have
                // asked for.
                self.topics.ensure(running.version.manifest.publishes.clone()).await?;
                self.relay.expect_records();
                tracing::info!(
                    plugin = self.name,
                    digest,
                    "plugin draining: sagas in flight stay with this version"
                );
                self.draining.add(Arc::new(running), SystemTime::now());
            }
            Err(reason) => {
                let reason = format!(
                    "its saga stays with version {}, which cannot run here: {reason}. To have the active version \
                     handle it: in_flight = \"move\" under [rollout] in {}.toml",
                    digest.get(..12).unwrap_or(digest),
                    self.name
                );
                tracing::error!(plugin = self.name, digest, reason, "sagas in flight cannot go on");
                self.draining.refuse(digest, reason);
            }
        }
        Ok(())
    }

    async fn load(&self, kept: registry::StoredVersion) -> Result<Running, Rejection> {
        let policy = Arc::new(Policy::parse(&self.name, &kept.policy)?);
        let version = Arc::new(Version::load(&self.engine, &self.name, &kept.body, policy).await?);
        let registry::StoredVersion { generation, since, .. } = kept;
        let counters = Counters::default();
        Ok(Running { version, generation, since, first_since: since, counters })
    }
}
