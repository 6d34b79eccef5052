//! `saga-host run` as a process on a stack.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::Context;
use saga_testkit::{
    caller::Request,
    host_process::{HostProcess, StartOptions, free_address},
    target::Target,
};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::{SOON, folder, stack};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_saga-host");
/// All of the order system.
pub(crate) const PLUGINS: [&str; 5] =
    ["inventory-command", "inventory-query", "notification", "order-orchestrator", "order-query"];

const SIGKILL: i32 = 9;

/// The host that tests share, for one test at a time: what they look at must not be another's.
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

/// The same stack with addresses for another host.
pub(crate) fn addressed(stack: &Target) -> Target {
    Target { http: Some(free_address().unwrap()), admin: Some(free_address().unwrap()), ..stack.clone() }
}

/// Starts a host and waits until it is ready.
pub(crate) async fn run(target: &Target, plugins: &Path) -> HostProcess {
    HostProcess::run(&options(plugins), target).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The same with what its lanes make of batches in its log, and the file of that.
pub(crate) async fn run_telling(target: &Target, plugins: &Path) -> (HostProcess, PathBuf) {
    let mut options = options(plugins);
    options
        .environment
        .push(("SAGA_HOST_LOG".to_owned(), "info,librdkafka=error,saga_host::lane=debug".to_owned()));
    let host = HostProcess::run(&options, target).await.unwrap_or_else(|error| panic!("{error:#}"));
    (host, options.folder.join("run.log"))
}

/// Starts a host, whether it gets ready or not.
pub(crate) fn begin(target: &Target, plugins: &Path) -> HostProcess {
    HostProcess::begin(&options(plugins), target).unwrap()
}

/// Starts a host that will kill itself when it reaches a fault point for the first time.
pub(crate) fn begin_with_fault(target: &Target, plugins: &Path, fault: &str) -> HostProcess {
    let mut options = options(plugins);
    options.environment.push(("SAGA_HOST_FAULT".to_owned(), fault.to_owned()));
    HostProcess::begin(&options, target).unwrap()
}

/// Waits until it has ended as by `kill -9`.
pub(crate) async fn dies(mut host: HostProcess) {
    let status = host.ended(SOON).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
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

/// What a client command of the binary prints; it must succeed.
pub(crate) fn cli(target: &Target, arguments: &[&str]) -> String {
    let output = ask(target, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Why a client command fails.
pub(crate) fn cli_refuses(target: &Target, arguments: &[&str]) -> String {
    let output = ask(target, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeds");
    String::from_utf8(output.stderr).unwrap()
}

fn ask(target: &Target, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).env("SAGA_HOST_ADMIN", target.admin().unwrap()).output().unwrap()
}
