//! Starts and stops `saga-host` as a child process, with its own ports, data folder and log file.

mod ended;
mod fresh;
mod options;
mod port;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use ended::tail;
pub use fresh::{on_fresh_data, on_fresh_stack, on_hosts};
pub use options::StartOptions;
pub use port::{free_address, free_port};

use crate::caller::Request;
use crate::target::{Further, Target};
use crate::topic::groups;

const POLL: Duration = Duration::from_millis(20);

/// A running `saga-host`. Dropping it sends SIGTERM without waiting; [`HostProcess::stop`] waits.
pub struct HostProcess {
    child: Child,
    log: PathBuf,
    stack: Option<Target>,
}

impl HostProcess {
    /// `saga-host dev`, ready to serve.
    ///
    /// # Errors
    /// The process ended, or was not ready in time; the message has the end of its log.
    pub async fn dev(options: &StartOptions) -> Result<(Self, Target)> {
        let (http, admin) = (free_address()?, free_address()?);
        let plugins = options.plugins.to_string_lossy();
        let mut started = Self::stack_command(
            options,
            &["dev", "--http", &http, "--admin", &admin, "--plugins", &plugins],
        )?;
        let target = started.stack_ready(options).await?;
        started.ready(target.admin()?, options.limit()).await?;
        Ok((started, target))
    }

    /// `saga-host dev` on its default addresses, on the data of earlier runs in `options.folder`; ready to
    /// serve. A Ctrl-C in this terminal does not stop it.
    ///
    /// # Errors
    /// As [`HostProcess::dev`], or another one runs on this folder.
    pub async fn dev_kept(options: &StartOptions) -> Result<(Self, Target)> {
        let file = options.folder.join("dev.json");
        if let Ok(earlier) = Target::read(&file) {
            if let Some(pid) = earlier.pids.host.filter(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
                bail!("a saga-host runs on {} (process {pid}); stop it first", options.folder.display());
            }
            std::fs::remove_file(&file)?;
        }
        std::fs::create_dir_all(&options.folder)?;
        let mut command = options.command(&["dev"])?;
        command.arg("--data").arg(&options.folder).arg("--plugins").arg(&options.plugins).process_group(0);
        let mut started = Self::spawn(command, options.folder.join("dev.log"))?;
        let target = started.written(options, &file).await?;
        started.ready(target.admin()?, options.limit()).await?;
        Ok((started, target))
    }

    /// `saga-host stack`: Postgres and Kafka only.
    ///
    /// # Errors
    /// As [`HostProcess::dev`].
    async fn stack(options: &StartOptions) -> Result<(Self, Target)> {
        let mut started = Self::stack_command(options, &["stack"])?;
        let target = started.stack_ready(options).await?;
        Ok((started, target))
    }

    fn stack_command(options: &StartOptions, arguments: &[&str]) -> Result<Self> {
        let mut command = options.command(arguments)?;
        command.arg("--fresh").arg("--data").arg(options.folder.join("stack"));
        command.args([
            "--postgres-port",
            &free_port()?.to_string(),
            "--kafka-port",
            &free_port()?.to_string(),
        ]);
        Self::spawn(command, options.folder.join(format!("{}.log", arguments[0])))
    }

    /// `saga-host run` against the target's Kafka and Postgres; ready to serve.
    ///
    /// # Errors
    /// As [`HostProcess::dev`].
    pub async fn run(options: &StartOptions, target: &Target) -> Result<Self> {
        let mut started = Self::begin(options, target)?;
        started.ready(target.admin()?, options.limit()).await?;
        Ok(started)
    }

    /// A second host on the stack of `target`; ready when each host has partitions of every plugin.
    ///
    /// # Errors
    /// As [`HostProcess::dev`], or the partitions were not assigned in time.
    pub async fn second(options: &StartOptions, target: &Target) -> Result<(Self, Target)> {
        let (http, admin) = (free_address()?, free_address()?);
        let addressed = Target { http: Some(http.clone()), admin: Some(admin.clone()), ..target.clone() };
        let started = Self::run(options, &addressed).await?;
        groups::shared(&target.kafka, 2, options.limit()).await?;
        let mut target = target.clone();
        target.more.push(Further { http, admin, pid: started.id() });
        Ok((started, target))
    }

    /// `saga-host run` like [`HostProcess::run`], without waiting until it is ready.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn begin(options: &StartOptions, target: &Target) -> Result<Self> {
        let mut command = options.command(&["run"])?;
        command
            .env("SAGA_HOST_POSTGRES", &target.postgres)
            .env("SAGA_HOST_KAFKA", &target.kafka)
            .env("SAGA_HOST_KAFKA_PROPERTIES", "session.timeout.ms=6000")
            .env("SAGA_HOST_HTTP", target.http()?)
            .env("SAGA_HOST_ADMIN", target.admin()?)
            .env("SAGA_HOST_PLUGINS", &options.plugins)
            .env("SAGA_HOST_MIGRATIONS", "apply");
        Self::spawn(command, options.folder.join("run.log"))
    }

    fn spawn(mut command: Command, log: PathBuf) -> Result<Self> {
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("start saga-host")?;
        Ok(Self { child, log, stack: None })
    }

    async fn stack_ready(&mut self, options: &StartOptions) -> Result<Target> {
        self.written(options, &options.folder.join("stack/dev.json")).await
    }

    async fn written(&mut self, options: &StartOptions, file: &Path) -> Result<Target> {
        let began = Instant::now();
        while !file.exists() {
            self.still_up(began, options.limit(), "did not write dev.json")?;
            tokio::time::sleep(POLL).await;
        }
        let target = Target::read(file)?;
        self.stack = Some(target.clone());
        Ok(target)
    }

    async fn ready(&mut self, admin: &str, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let reply = Request::get("/readyz").send(admin).await;
            if reply.as_ref().is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            let answer = reply.map_or_else(|error| format!("{error:#}"), |reply| reply.short());
            self.still_up(began, limit, &format!("is not ready: {answer}"))?;
            tokio::time::sleep(POLL).await;
        }
    }

    fn still_up(&mut self, began: Instant, limit: Duration, what: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("saga-host ended ({status}):\n{}", tail(&self.log));
        }
        if began.elapsed() > limit {
            bail!("saga-host {what}, after {} s:\n{}", limit.as_secs(), tail(&self.log));
        }
        Ok(())
    }
}
