//! Postgres and Kafka in this process, and a network link from each host to each of them.

use std::path::Path;

use anyhow::{Context, Result};

use super::disk::Disk;
use saga_devstack::{Listener, Stack, StackOptions};
use saga_testkit::host_process::free_port;
use saga_testkit::proxy::{Network, Proxy};
use saga_testkit::target::{Pids, Target};

/// The links of one host.
pub(super) struct Link {
    pub(super) kafka: Proxy,
    pub(super) postgres: Proxy,
}

/// The servers, the links to them, and the disk of their data when it is a small one.
pub(super) struct Linked {
    pub(super) stack: Stack,
    pub(super) links: Vec<Link>,
    pub(super) disk: Option<Disk>,
    /// Without a link in between: for the checks.
    pub(super) direct: Target,
}

impl Linked {
    /// Starts both servers on fresh data in `folder`, with links for this many hosts.
    pub(super) async fn start(folder: &Path, hosts: usize, disk_mb: Option<u32>) -> Result<Self> {
        let data = folder.join("stack");
        std::fs::create_dir_all(&data)?;
        let disk = disk_mb.map(|mb| Disk::mount(&data, mb)).transpose()?;
        let listener = || Ok(Listener { port: free_port()?, advertised: free_port()? });
        let listeners: Vec<Listener> = (0..hosts).map(|_| listener()).collect::<Result<_>>()?;
        let postgres_port = free_port()?;
        let stack = Stack::start(StackOptions {
            data,
            fresh: true,
            postgres_port: Some(postgres_port),
            kafka_port: Some(free_port()?),
            kafka_listeners: listeners.clone(),
        })
        .await?;
        let mut links = Vec::new();
        for listener in listeners {
            links.push(Link {
                kafka: Proxy::start(listener.advertised, listener.port).await?,
                postgres: Proxy::start(free_port()?, postgres_port).await?,
            });
        }
        let direct = Target {
            http: None,
            admin: None,
            kafka: stack.kafka_bootstrap().to_owned(),
            postgres: stack.postgres_url().to_owned(),
            pids: Pids::default(),
            more: Vec::new(),
        };
        Ok(Self { stack, links, disk, direct })
    }

    /// The servers as the host with this number sees them.
    pub(super) fn seen_by(&self, host: usize) -> Target {
        let link = &self.links[host];
        Target {
            kafka: format!("127.0.0.1:{}", link.kafka.port()),
            postgres: format!("postgres://postgres@127.0.0.1:{}/postgres", link.postgres.port()),
            ..self.direct.clone()
        }
    }

    /// Changes the links of these hosts to Postgres.
    pub(super) fn postgres(&self, hosts: &[usize], network: Network) {
        hosts.iter().for_each(|host| self.links[*host].postgres.set(network));
    }

    /// Changes the links of these hosts to Kafka.
    pub(super) fn kafka(&self, hosts: &[usize], network: Network) {
        hosts.iter().for_each(|host| self.links[*host].kafka.set(network));
    }

    /// The broker.
    pub(super) fn broker(&self) -> Result<i32> {
        i32::try_from(self.stack.pids().kafka).context("a process id")
    }

    /// Stops both servers.
    pub(super) async fn stop(self) {
        let Self { stack, disk, .. } = self;
        stack.stop().await;
        drop(disk);
    }
}
