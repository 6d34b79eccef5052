//! Two hosts on one Kafka and Postgres, and what they and the database say of a plugin.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sqlx::Row;

use saga_testkit::caller::Request;
use saga_testkit::database::Databases;
use saga_testkit::host_process::{HostProcess, StartOptions, free_address};
use saga_testkit::service;
use saga_testkit::target::Target;
use saga_testkit::topic::groups;

const POLL: Duration = Duration::from_millis(10);
const AGREE_WITHIN: Duration = Duration::from_secs(20);
/// Where a host ends as by SIGKILL: it has written that a version is active, and not yet swapped.
const FAULT: (&str, &str) = ("SAGA_HOST_FAULT", "after-activation-before-swap");

/// Which version of a plugin is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) generation: i64,
    pub(super) digest: String,
}

pub(super) struct Pair {
    options: StartOptions,
    hosts: [Host; 2],
    databases: Databases,
}

struct Host {
    target: Target,
    process: HostProcess,
}

impl Pair {
    /// Both with partitions of every plugin.
    pub(super) async fn start(options: &StartOptions, stack: &Target) -> Result<Self> {
        let hosts = [Host::start(options, stack).await?, Host::start(options, stack).await?];
        let pair = Self { options: options.clone(), hosts, databases: Databases::new(&stack.postgres)? };
        pair.shared().await?;
        Ok(pair)
    }

    async fn shared(&self) -> Result<()> {
        groups::shared(&self.target(0).kafka, 2, Duration::from_secs(self.options.ready_s)).await
    }

    pub(super) fn target(&self, host: usize) -> &Target {
        &self.hosts[host].target
    }

    pub(super) async fn kill(&mut self, host: usize) -> Result<()> {
        self.hosts[host].process.kill().await
    }

    /// Waits until a host has ended by itself.
    pub(super) async fn dies(&mut self, host: usize) -> Result<()> {
        self.hosts[host].process.ended(AGREE_WITHIN).await.map(drop)
    }

    /// A host that has ended, until both have partitions again. With `faulty`, it ends in its next swap.
    pub(super) async fn restart(&mut self, host: usize, faulty: bool) -> Result<()> {
        let mut options = self.options.clone();
        options.environment.extend(faulty.then(|| (FAULT.0.to_owned(), FAULT.1.to_owned())));
        self.hosts[host].process = HostProcess::run(&options, &self.hosts[host].target).await?;
        self.shared().await
    }

    /// What a host runs.
    pub(super) async fn runs(&self, host: usize, plugin: &str) -> Result<Standing> {
        let reply = Request::get(format!("/v1/plugins/{plugin}"))
            .send(self.target(host).admin()?)
            .await?
            .expect(200)?;
        let shown = reply.json()?;
        let versions = shown["versions"].as_array().into_iter().flatten();
        let active: Vec<&str> = versions
            .filter(|version| version["state"] == "active")
            .filter_map(|version| version["digest"].as_str())
            .collect();
        let [digest] = active[..] else { bail!("{plugin} has {} active versions: {shown}", active.len()) };
        let generation = shown["generation"].as_i64().with_context(|| format!("no generation: {shown}"))?;
        Ok(Standing { generation, digest: digest.to_owned() })
    }

    /// What the database says, once these hosts run it.
    pub(super) async fn agreed(&self, plugin: &str, hosts: &[usize]) -> Result<Standing> {
        let began = Instant::now();
        loop {
            let recorded = self.recorded(plugin).await?;
            let mut others = Vec::new();
            for host in hosts {
                match self.runs(*host, plugin).await {
                    Ok(running) if running == recorded => {}
                    other => others.push(format!("host {}: {other:?}", host + 1)),
                }
            }
            if others.is_empty() {
                return Ok(recorded);
            }
            ensure!(
                began.elapsed() < AGREE_WITHIN,
                "{plugin}: {recorded:?} in the database, {}",
                others.join(", ")
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn recorded(&self, plugin: &str) -> Result<Standing> {
        let service = service::SERVICES.iter().find(|service| service.plugin == plugin);
        let database = service.with_context(|| format!("no service {plugin}"))?.database;
        let row = sqlx::query(
            "SELECT generation, digest FROM saga.activation WHERE plugin = $1 ORDER BY generation DESC LIMIT 1",
        )
        .bind(plugin)
        .fetch_one(self.databases.of(database)?)
        .await
        .with_context(|| format!("which version of {plugin} is active"))?;
        Ok(Standing { generation: row.try_get(0)?, digest: row.try_get(1)? })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.databases.close().await;
        let [first, second] = self.hosts;
        let stopped = second.process.stop().await;
        first.process.stop().await.and(stopped)
    }
}

impl Host {
    async fn start(options: &StartOptions, stack: &Target) -> Result<Self> {
        let target = Target { http: Some(free_address()?), admin: Some(free_address()?), ..stack.clone() };
        let process = HostProcess::run(options, &target).await?;
        Ok(Self { target, process })
    }
}
