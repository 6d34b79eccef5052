//! Starts and stops `saga-host` as a child process, with its own ports, data folder and log file.

mod options;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

pub use options::StartOptions;

use crate::caller::Request;
use crate::target::{Further, Target};
use crate::topic::groups;

const POLL: Duration = Duration::from_millis(20);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Below what Linux and macOS give to outgoing connections, which would race for it.
const PICKED_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A running `saga-host`. Dropped without [`HostProcess::stop`], it is asked to end, but not waited for.
pub struct HostProcess {
    child: Child,
    log: PathBuf,
    stack: Option<Target>,
}

impl HostProcess {
    /// `saga-host dev`, ready to serve.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the message shows the end of its log.
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

    /// `saga-host dev` on its usual addresses, with what an earlier run left in `options.folder`; ready to
    /// serve. A Ctrl-C of this terminal does not reach it.
    ///
    /// # Errors
    /// As [`HostProcess::dev`], or one runs on this folder.
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

    /// A further host beside that of `target`: both together, each with partitions of every plugin.
    ///
    /// # Errors
    /// As [`HostProcess::dev`], or the partitions were not shared out in time.
    pub async fn second(options: &StartOptions, target: &Target) -> Result<(Self, Target)> {
        let (http, admin) = (free_address()?, free_address()?);
        let addressed = Target { http: Some(http.clone()), admin: Some(admin.clone()), ..target.clone() };
        let started = Self::run(options, &addressed).await?;
        groups::shared(&target.kafka, 2, options.limit()).await?;
        let mut target = target.clone();
        target.more.push(Further { http, admin, pid: started.id() });
        Ok((started, target))
    }

    /// `saga-host run` as [`HostProcess::run`] has it, not waited for.
    ///
    /// # Errors
    /// It cannot be started.
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
            let said = reply.map_or_else(|error| format!("{error:#}"), |reply| reply.short());
            self.still_up(began, limit, &format!("is not ready: {said}"))?;
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

    /// Its process id, none once it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Errors
    /// As the system reports.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill saga-host")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It goes on after `limit`.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        let still = || format!("saga-host goes on after {} s:\n{}", limit.as_secs(), tail(&self.log));
        ended.with_context(still)?.context("wait for saga-host")
    }

    /// Waits until it ends although nobody asked it to: what there is to say of that.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub async fn ends(&mut self) -> Result<anyhow::Error> {
        let status = self.child.wait().await.context("wait for saga-host")?;
        Ok(anyhow!("saga-host ended ({status}):\n{}", tail(&self.log)))
    }

    /// SIGSTOP: it stands still until [`HostProcess::thaw`], its connections stay open.
    pub fn freeze(&self) {
        signal(self.child.id(), Signal::STOP);
    }

    /// SIGCONT
    pub fn thaw(&self) {
        signal(self.child.id(), Signal::CONT);
    }

    /// SIGTERM, and waits for its end; after 30 s SIGKILL, also for the Kafka and the Postgres it had
    /// started.
    ///
    /// # Errors
    /// It did not end by itself, or not with 0.
    pub async fn stop(mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM);
        if let Ok(status) = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            return self.ended_well(status?);
        }
        self.child.kill().await?;
        if let Some(stack) = &self.stack {
            signal(stack.pids.kafka, Signal::KILL);
            signal(stack.pids.postgres, Signal::INT);
        }
        bail!("saga-host did not stop in {} s:\n{}", STOP_WITHIN.as_secs(), tail(&self.log))
    }

    /// Does the same as [`HostProcess::stop`], but blocks the thread: for drop guards.
    ///
    /// # Errors
    /// As [`HostProcess::stop`].
    pub fn stop_blocking(&mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM);
        self.thaw();
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                return self.ended_well(status);
            }
            std::thread::sleep(POLL);
        }
        self.child.start_kill()?;
        bail!("saga-host did not stop in {} s:\n{}", STOP_WITHIN.as_secs(), tail(&self.log))
    }

    fn ended_well(&self, status: ExitStatus) -> Result<()> {
        ensure!(status.success(), "saga-host stopped with {status}:\n{}", tail(&self.log));
        Ok(())
    }

    async fn stop_after<T>(self, done: Result<T>) -> Result<T> {
        let stopped = self.stop().await;
        let done = done?;
        stopped?;
        Ok(done)
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::TERM);
        self.thaw();
    }
}

/// Does something with a `saga-host dev` on fresh data, and stops it, whatever came of it.
///
/// # Errors
/// It did not start, `work` failed, or it did not stop well.
pub async fn on_fresh_data<T>(
    options: &StartOptions,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    options.prepare()?;
    let (host, target) = HostProcess::dev(options).await?;
    host.stop_after(work(&target).await).await
}

/// The same with so many hosts on one Kafka and Postgres: one or two.
///
/// # Errors
/// As [`on_fresh_data`], and [`HostProcess::second`].
pub async fn on_hosts<T>(
    options: &StartOptions,
    hosts: u32,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    on_fresh_data(options, async |target| {
        if hosts == 1 {
            return work(target).await;
        }
        let (second, target) = HostProcess::second(options, target).await?;
        second.stop_after(work(&target).await).await
    })
    .await
}

/// The same with a `saga-host stack`; the target has addresses that a host may serve on.
///
/// # Errors
/// As [`on_fresh_data`].
pub async fn on_fresh_stack<T>(
    options: &StartOptions,
    work: impl AsyncFnOnce(&Target) -> Result<T>,
) -> Result<T> {
    options.prepare()?;
    let (stack, stacked) = HostProcess::stack(options).await?;
    let target = Target { http: Some(free_address()?), admin: Some(free_address()?), ..stacked };
    stack.stop_after(work(&target).await).await
}

fn signal(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

/// A port that was free just now.
///
/// # Errors
/// None is.
pub fn free_port() -> Result<u16> {
    let mut ports = std::iter::repeat_with(|| uuid::Uuid::new_v4().as_u128() as usize % PICKED_PORTS.len())
        .take(PICKED_PORTS.len())
        .filter_map(|offset| PICKED_PORTS.start.checked_add(u16::try_from(offset).ok()?));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no free port")
}

/// An address on loopback that was free just now.
///
/// # Errors
/// None is.
pub fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
