//! `saga-host run` as a process on a stack.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{LazyLock, OnceLock},
};

use anyhow::{Context, ensure};
use saga_testkit::{
    caller::Request,
    host_process::{HostProcess, StartOptions, free_address},
    target::Target,
    wrong_clock,
};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::{SOON, eventually, folder, stack};

/// The library for hosts whose clock is wrong.
static WRONG_CLOCK: LazyLock<PathBuf> =
    LazyLock::new(|| wrong_clock::build(&folder::new("wrong-clock")).unwrap());

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_saga-host");
/// All plugins of the order system.
pub(crate) const PLUGINS: [&str; 5] =
    ["inventory-command", "inventory-query", "notification", "order-orchestrator", "order-query"];

const SIGKILL: i32 = 9;

/// A host process of one test. Dropping it stops the process, which must exit with 0 unless the test has
/// failed.
pub(crate) struct Host(Option<HostProcess>);

impl Host {
    /// Stops it within the test.
    pub(crate) async fn stop(mut self) {
        let process = self.0.take().expect("it is stopped once");
        process.stop().await.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(mut self) {
        let mut process = self.0.take().expect("it is killed once");
        process.kill().await.unwrap();
    }

    /// Its process id; none once it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.0.as_ref().and_then(HostProcess::id)
    }

    /// SIGSTOP; its connections stay open.
    pub(crate) fn freeze(&self) {
        self.0.iter().for_each(HostProcess::freeze);
    }

    /// SIGCONT
    pub(crate) fn thaw(&self) {
        self.0.iter().for_each(HostProcess::thaw);
    }

    /// Waits until it has killed itself at its fault point.
    pub(crate) async fn dies(mut self) {
        let mut process = self.0.take().expect("it dies once");
        let status = process.ended(SOON).await.unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut process) = self.0.take().filter(|_| !std::thread::panicking()) else { return };
        process.stop_blocking().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// The host that tests share, by one test at a time: no test sees the orders of another.
pub(crate) async fn shared() -> (MutexGuard<'static, ()>, Target) {
    static SHARED: OnceLock<Target> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let target = SHARED.get_or_init(|| {
        let target = addressed(stack::shared());
        stack::for_good(|| async move {
            let host = run(&target, &folder::plugins(&[])).await;
            (target, host)
        })
    });
    (turn, target.clone())
}

/// The same stack, with addresses for another host.
pub(crate) fn addressed(stack: &Target) -> Target {
    Target { http: Some(free_address().unwrap()), admin: Some(free_address().unwrap()), ..stack.clone() }
}

/// Starts a host and waits until it is ready.
pub(crate) async fn run(target: &Target, plugins: &Path) -> Host {
    start(&options(plugins), target).await
}

async fn start(options: &StartOptions, target: &Target) -> Host {
    Host(Some(HostProcess::run(options, target).await.unwrap_or_else(|error| panic!("{error:#}"))))
}

/// The same, with the debug log of its lanes; also gives the file of the log.
pub(crate) async fn run_logging_lanes(target: &Target, plugins: &Path) -> (Host, PathBuf) {
    let mut options = options(plugins);
    options
        .environment
        .push(("SAGA_HOST_LOG".to_owned(), "info,librdkafka=error,saga_host::lane=debug".to_owned()));
    (start(&options, target).await, options.folder.join("run.log"))
}

/// Starts a host without waiting until it is ready.
pub(crate) fn spawn(target: &Target, plugins: &Path) -> Host {
    Host(Some(HostProcess::begin(&options(plugins), target).unwrap()))
}

/// The same; also gives the file of its log.
pub(crate) fn spawn_logging(target: &Target, plugins: &Path) -> (Host, PathBuf) {
    let options = options(plugins);
    let host = HostProcess::begin(&options, target).unwrap();
    (Host(Some(host)), options.folder.join("run.log"))
}

/// Starts a host with further variables and waits until it is ready.
pub(crate) async fn run_with(target: &Target, plugins: &Path, variables: &[(&str, &str)]) -> Host {
    let mut options = options(plugins);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    options.environment.extend(variables);
    start(&options, target).await
}

/// Starts a host that kills itself when it reaches a fault point for the first time.
pub(crate) fn spawn_with_fault(target: &Target, plugins: &Path, fault: &str) -> Host {
    let mut options = options(plugins);
    options.environment.push(("SAGA_HOST_FAULT".to_owned(), fault.to_owned()));
    Host(Some(HostProcess::begin(&options, target).unwrap()))
}

/// Starts a host whose own clock is wrong by this many seconds, and waits until it is ready.
pub(crate) async fn run_with_clock(target: &Target, plugins: &Path, wrong_by_s: i64) -> Host {
    let mut options = options(plugins);
    options.environment.extend(wrong_clock::environment(&WRONG_CLOCK, wrong_by_s * 1_000));
    start(&options, target).await
}

/// Starts a host that plays the next build, and waits until it is ready: it has a newer format of bodies, and
/// calls a `saga.flush` with one parameter more.
pub(crate) async fn run_next_build(target: &Target, plugins: &Path) -> Host {
    let mut options = options(plugins);
    options.environment.push(("SAGA_HOST_PLAYS_NEXT_BUILD".to_owned(), "1".to_owned()));
    start(&options, target).await
}

fn options(plugins: &Path) -> StartOptions {
    let environment = [
        ("SAGA_HOST_CACHE", folder::cache().display().to_string()),
        ("SAGA_HOST_LOG_FORMAT", "text".to_owned()),
    ];
    StartOptions {
        host_binary: Some(PathBuf::from(BINARY)),
        plugins: plugins.to_owned(),
        folder: folder::new("host"),
        ready_s: SOON.as_secs(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
    }
}

/// `GET` of the host API.
pub(crate) async fn get(target: &Target, path: &str) -> anyhow::Result<Value> {
    Request::get(path).send(target.admin()?).await?.expect(200)?.json()
}

/// The digest of a plugin's active version.
pub(crate) async fn active(target: &Target, plugin: &str) -> anyhow::Result<String> {
    let shown = get(target, &format!("/v1/plugins/{plugin}")).await?;
    let versions = shown["versions"].as_array().into_iter().flatten();
    let active = versions.into_iter().find(|version| version["state"] == "active");
    active
        .and_then(|version| version["digest"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("none: {shown}"))
}

/// The value of a metric with this label.
pub(crate) async fn metric(target: &Target, name: &str, label: &str) -> anyhow::Result<f64> {
    let text = Request::get("/metrics").send(target.admin()?).await?.expect(200)?.text();
    let of = |line: &&str| line.starts_with(&format!("saga_host_{name}{{")) && line.contains(label);
    let line = text.lines().find(of).with_context(|| format!("no {name} of {label} in:\n{text}"))?;
    line.rsplit(' ').next().unwrap_or_default().parse().with_context(|| line.to_owned())
}

/// Waits until the host is ready.
pub(crate) async fn ready(target: &Target) {
    eventually(async || Request::get("/readyz").send(target.admin()?).await?.expect(200).map(drop)).await;
}

/// Waits until the host is not ready, and says this about it.
pub(crate) async fn not_ready(target: &Target, says: &str) {
    eventually(async || {
        let answer = Request::get("/readyz").send(target.admin()?).await?.expect(503)?.text();
        ensure!(answer.contains(says), "{answer}");
        Ok(())
    })
    .await;
}

/// What is parked of a plugin, the newest first.
pub(crate) async fn parked(target: &Target, plugin: &str) -> anyhow::Result<Vec<Value>> {
    let shown = get(target, &format!("/v1/parked?plugin={plugin}")).await?;
    shown["parked"].as_array().cloned().context("no list")
}

/// Runs a client command, which must succeed; gives its output.
pub(crate) fn cli(target: &Target, arguments: &[&str]) -> String {
    let output = ask(target, arguments);
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}: {printed}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a client command, which must fail; gives the error that it prints.
pub(crate) fn cli_refuses(target: &Target, arguments: &[&str]) -> String {
    let output = ask(target, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeds");
    String::from_utf8(output.stderr).unwrap()
}

fn ask(target: &Target, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env("SAGA_HOST_ADMIN", target.admin().unwrap()).output().unwrap()
}
