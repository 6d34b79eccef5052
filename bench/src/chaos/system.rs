//! The hosts under test on one Postgres and Kafka, and the active version of a plugin according to each host
//! and to the database.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sqlx::Row;

use super::description;
use super::links::Linked;
use super::services::Services;
use super::versions::TwoVersions;
use saga_testkit::caller::Request;
use saga_testkit::database::Databases;
use saga_testkit::host_process::{HostProcess, StartOptions, free_address};
use saga_testkit::quiet::{self, Motion, eventually};
use saga_testkit::target::Target;
use saga_testkit::topic::groups;

const POLL: Duration = Duration::from_millis(10);
const AGREE_WITHIN: Duration = Duration::from_secs(20);
/// The lease of a host that cannot renew it ends after 2 s.
const LED_WITHIN: Duration = Duration::from_secs(10);
/// A host whose session was lost joins its consumer groups again, which takes a while.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The assumed time until a swap is answered, before one was measured.
const ANSWER_MS_DEFAULT: usize = 20;

/// The environment variable that makes a host kill itself in its next swap, after it has recorded the
/// activation and before it runs the new version.
pub(in crate::chaos) const FAULT_POINT: [&str; 2] = ["SAGA_HOST_FAULT", "after-activation-before-swap"];

/// The active version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) generation: i64,
    pub(super) digest: String,
}

/// The duration of a swap, from its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct SwapTime {
    /// Until the host that received the request answered.
    pub(super) answered: Duration,
    /// Until every host ran the new version.
    pub(super) everywhere: Duration,
}

/// The hosts, the servers that they share, and the plugins that are swapped.
pub(super) struct System {
    pub(super) description: description::System,
    pub(super) services: Services,
    pub(super) linked: Linked,
    pub(super) databases: Databases,
    pub(super) plugins: Vec<TwoVersions>,
    /// The answer times of the swaps so far, in milliseconds.
    answers_ms: Vec<usize>,
    options: StartOptions,
    /// The last one is down, unless a fault lets it join.
    hosts: Vec<Host>,
    /// Names under which hosts hold leases.
    owners: HashSet<String>,
}

struct Host {
    target: Target,
    /// None while it is down.
    process: Option<HostProcess>,
    /// The name under which it holds leases.
    owner: Option<String>,
}

impl System {
    /// Starts the servers and this many hosts, each with partitions of every plugin.
    pub(super) async fn start_all(
        options: &StartOptions,
        description: description::System,
        hosts: usize,
        disk_mb: Option<u32>,
    ) -> Result<Self> {
        let services = Services::read(&options.plugins, &description.plugins)?;
        let swapped = description.swapped.iter();
        let plugins = swapped.map(|name| TwoVersions::read(&options.plugins, name)).collect::<Result<_>>()?;
        let linked = Linked::start(&options.folder, hosts + 1, disk_mb).await?;
        let mut system = Self {
            databases: services.connect(&linked.direct.postgres)?,
            description,
            services,
            plugins,
            linked,
            answers_ms: Vec::new(),
            options: options.clone(),
            hosts: Vec::new(),
            owners: HashSet::new(),
        };
        for host in 0..=hosts {
            let seen = system.linked.seen_by(host);
            let target = Target { http: Some(free_address()?), admin: Some(free_address()?), ..seen };
            system.hosts.push(Host { target, process: None, owner: None });
        }
        if let Err(error) = system.start_hosts(hosts).await {
            // The servers end when they are dropped, but their disk can only be unmounted after that.
            let _ = system.stop().await;
            return Err(error);
        }
        Ok(system)
    }

    async fn start_hosts(&mut self, hosts: usize) -> Result<()> {
        for host in 0..hosts {
            self.start(host, &[]).await?;
        }
        let (kafka, limit) = (&self.linked.direct.kafka, Duration::from_secs(self.options.ready_s));
        groups::shared_by(kafka, self.description.plugins.iter().map(String::as_str), hosts, limit).await
    }

    /// How many hosts run, unless a fault lets another one join.
    pub(super) fn hosts(&self) -> usize {
        self.hosts.len() - 1
    }

    /// The folder of the run.
    pub(super) fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// The number of the host that can join.
    pub(super) fn spare(&self) -> usize {
        self.hosts.len() - 1
    }

    pub(super) fn target(&self, host: usize) -> &Target {
        &self.hosts[host].target
    }

    /// Addresses of the service routes.
    pub(super) fn addresses(&self) -> Result<Vec<String>> {
        self.hosts[..self.hosts()].iter().map(|host| host.target.http().map(str::to_owned)).collect()
    }

    pub(super) fn process(&self, host: usize) -> Result<&HostProcess> {
        self.hosts[host].process.as_ref().with_context(|| format!("host {} is down", host + 1))
    }

    /// Starts a host that is down, with additional environment variables, and waits until it is ready.
    pub(super) async fn start(&mut self, host: usize, environment: &[(String, String)]) -> Result<()> {
        let mut options = self.options.clone();
        options.environment.extend_from_slice(environment);
        self.hosts[host].process = Some(HostProcess::run(&options, &self.hosts[host].target).await?);
        // A name that is new is the one of the host that has just started.
        let new = self.lease_owners(">").await?.into_iter().find(|owner| self.owners.insert(owner.clone()));
        self.hosts[host].owner = new;
        Ok(())
    }

    /// Who holds leases: of lanes (slots `>` 0) or of relays (slots `=` 0).
    async fn lease_owners(&self, slots: &str) -> Result<Vec<String>> {
        let statement =
            format!("SELECT owner FROM saga.lane WHERE slot {slots} 0 AND lease_expires_at > now()");
        let mut owners = Vec::new();
        for database in self.databases.names() {
            let rows = sqlx::query(sqlx::AssertSqlSafe(statement.clone()));
            for row in rows.fetch_all(self.databases.of(database)?).await? {
                owners.push(row.try_get(0)?);
            }
        }
        Ok(owners)
    }

    /// The host that leads the most relays. Right after another fault there may be none for a while.
    pub(super) async fn leader(&self) -> Result<usize> {
        eventually(LED_WITHIN, || self.leads_most()).await
    }

    async fn leads_most(&self) -> Result<usize> {
        let leaders = self.lease_owners("=").await?;
        let leads = |host: &usize| {
            leaders.iter().filter(|leader| self.hosts[*host].owner.as_ref() == Some(leader)).count()
        };
        let most = (0..self.hosts()).max_by_key(leads).filter(|host| leads(host) > 0);
        most.with_context(|| format!("no host is known that leads a relay: {leaders:?}"))
    }

    /// Sends SIGKILL.
    pub(super) async fn kill(&mut self, host: usize) -> Result<()> {
        self.taken(host)?.kill().await
    }

    /// Sends SIGTERM. The host must end with status 0.
    pub(super) async fn term(&mut self, host: usize) -> Result<()> {
        self.taken(host)?.stop().await
    }

    /// Waits until a host has ended without a signal from here.
    pub(super) async fn ended(&mut self, host: usize) -> Result<()> {
        self.taken(host)?.ended(AGREE_WITHIN).await.map(drop)
    }

    fn taken(&mut self, host: usize) -> Result<HostProcess> {
        self.hosts[host].process.take().with_context(|| format!("host {} is down", host + 1))
    }

    /// Waits until nothing is left to do; after `limit`, returns what is.
    pub(super) async fn quiet(&self, limit: Duration) -> Result<Motion> {
        quiet::wait_for(self.services.groups(&self.linked.direct.kafka)?, &self.databases, limit).await
    }

    /// Runs a statement in the database of a service.
    pub(super) async fn execute(&self, database: &str, statement: String) -> Result<()> {
        let done =
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(self.databases.of(database)?);
        done.await.map(drop).with_context(|| format!("{statement} in {database}"))
    }

    /// One number from the database of a service.
    pub(super) async fn number(&self, database: &str, statement: String) -> Result<i64> {
        Ok(self.text(database, format!("SELECT ({statement})::text")).await?.parse()?)
    }

    /// One text from the database of a service.
    pub(super) async fn text(&self, database: &str, statement: String) -> Result<String> {
        let row = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).fetch_one(self.databases.of(database)?);
        row.await.and_then(|row| row.try_get(0)).with_context(|| format!("{statement} in {database}"))
    }

    /// Waits until every host is ready.
    pub(super) async fn all_ready(&self) -> Result<()> {
        for (number, host) in self.hosts[..self.hosts()].iter().enumerate() {
            let admin = host.target.admin()?;
            let ready = || async { Request::get("/readyz").send(admin).await?.expect(200).map(drop) };
            eventually(READY_WITHIN, ready).await.with_context(|| format!("host {}", number + 1))?;
        }
        Ok(())
    }

    /// Asks a host to activate a plugin's other version.
    pub(super) async fn request_swap(&mut self, plugin: usize, host: usize) -> Result<()> {
        self.plugins[plugin].swap(&self.hosts[host].target).await
    }

    /// The same, and waits until every host runs it.
    pub(super) async fn swap(&mut self, plugin: usize, host: usize) -> Result<SwapTime> {
        let start = Instant::now();
        self.request_swap(plugin, host).await?;
        let answered = start.elapsed();
        let plugin = &self.plugins[plugin];
        let active = self.agreed_everywhere(plugin.name()).await?;
        ensure!(active.digest == plugin.active(), "a swap that was answered is not active: {active:?}");
        self.answers_ms.push(usize::try_from(answered.as_millis()).unwrap_or(usize::MAX));
        Ok(SwapTime { answered, everywhere: start.elapsed() })
    }

    /// The median time in which a host answers a swap, in milliseconds.
    pub(super) fn answer_ms(&self) -> usize {
        let mut sorted = self.answers_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(ANSWER_MS_DEFAULT)
    }

    /// The version that a host runs.
    pub(super) async fn running(&self, plugin: &str, host: usize) -> Result<Active> {
        let request = Request::get(format!("/v1/plugins/{plugin}"));
        let shown = request.send(self.target(host).admin()?).await?.expect(200)?.json()?;
        let versions = shown["versions"].as_array().into_iter().flatten();
        let active: Vec<&str> = versions
            .filter(|version| version["state"] == "active")
            .filter_map(|version| version["digest"].as_str())
            .collect();
        let [digest] = active[..] else { bail!("{plugin} has {} active versions: {shown}", active.len()) };
        let generation = shown["generation"].as_i64().with_context(|| format!("no generation: {shown}"))?;
        Ok(Active { generation, digest: digest.to_owned() })
    }

    /// The active version according to the database, once all hosts run it.
    pub(super) async fn agreed_everywhere(&self, plugin: &str) -> Result<Active> {
        let all: Vec<usize> = (0..self.hosts()).collect();
        self.agreed(plugin, &all).await
    }

    /// The active version according to the database, once these hosts run it.
    pub(super) async fn agreed(&self, plugin: &str, hosts: &[usize]) -> Result<Active> {
        let start = Instant::now();
        loop {
            let recorded = self.recorded(plugin).await?;
            let mut others = Vec::new();
            for host in hosts {
                match self.running(plugin, *host).await {
                    Ok(running) if running == recorded => {}
                    other => others.push(format!("host {}: {other:?}", host + 1)),
                }
            }
            if others.is_empty() {
                return Ok(recorded);
            }
            ensure!(
                start.elapsed() < AGREE_WITHIN,
                "{plugin}: {recorded:?} in the database, {}",
                others.join(", ")
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn recorded(&self, plugin: &str) -> Result<Active> {
        let database = &self.services.of(plugin)?.database;
        let row = sqlx::query(
            "SELECT generation, digest FROM saga.activation
              WHERE plugin = $1 ORDER BY generation DESC LIMIT 1",
        )
        .bind(plugin)
        .fetch_one(self.databases.of(database)?)
        .await
        .with_context(|| format!("which version of {plugin} is active"))?;
        Ok(Active { generation: row.try_get(0)?, digest: row.try_get(1)? })
    }

    /// Sends SIGTERM to every host, the last one first, then stops the servers. Each host must end with status
    /// 0.
    pub(super) async fn stop(self) -> Result<()> {
        self.databases.close().await;
        let mut stopped = Ok(());
        for process in self.hosts.into_iter().rev().filter_map(|host| host.process) {
            stopped = process.stop().await.and(stopped);
        }
        self.linked.stop().await;
        stopped
    }
}
