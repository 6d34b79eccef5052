//! Child processes that end with this one.
//!
//! The kernel sends a child its signal when the *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`),
//! which covers SIGKILL of this process. So each child has a thread that waits for it. `setpriv` of
//! util-linux makes the call between fork and exec.

use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{oneshot, watch};

use crate::{
    lock::Lock,
    program::{find_program, output_of},
};

const STOP_WITHIN: Duration = Duration::from_secs(20);
const END_WITHIN: Duration = Duration::from_secs(60);

/// A user and group to run as, when this process is root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

/// A command that runs as `user`, in `/`, which every user may enter.
pub(super) fn command(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// A child to start.
pub(super) struct Spawn<'a> {
    pub name: &'static str,
    pub program: &'a Path,
    pub arguments: Vec<String>,
    pub user: Option<User>,
    /// Sent to stop the child, also by the kernel when this process dies.
    pub stop_signal: Signal,
    /// The file to which its output is appended.
    pub log: PathBuf,
    /// Inherited by the child, so it stays locked for as long as the child lives.
    pub lock: &'a Lock,
}

/// A running child. Dropping it sends the stop signal without waiting for the end.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    pid: Pid,
    stop_signal: Signal,
    log: PathBuf,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    pub(super) async fn spawn(spawn: Spawn<'_>) -> anyhow::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&spawn.log);
        let log = log.with_context(|| format!("opening {}", spawn.log.display()))?;
        let mut command = with_death_signal(&spawn);
        command.stdin(spawn.lock.share()?).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C signals the whole group of the terminal, but the host must end before the servers that it
        // uses.
        command.process_group(0);
        let (started, pid) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        thread::Builder::new().name(format!("{} wait", spawn.name)).spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                drop(command);
                end.send_replace(child.wait().ok());
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        let pid = pid.await?.with_context(|| format!("starting {}", spawn.program.display()))?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("process id")?;
        Ok(Self { name: spawn.name, pid, stop_signal: spawn.stop_signal, log: spawn.log, ended })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits until the child has ended. The error contains its status and the end of its log.
    pub(super) async fn ended(&self) -> anyhow::Error {
        let mut ended = self.ended.clone();
        let status = match ended.wait_for(Option::is_some).await {
            Ok(status) => status.map(|status| status.to_string()).unwrap_or_default(),
            Err(_) => "status unknown".to_owned(),
        };
        anyhow::anyhow!(
            "{} ended ({status}); {} ends with:\n{}",
            self.name,
            self.log.display(),
            tail(&self.log)
        )
    }

    /// Sends the stop signal and waits for the end; kills the child after 20 s.
    pub(super) async fn stop(self) {
        self.signal(self.stop_signal);
        if tokio::time::timeout(STOP_WITHIN, self.ended()).await.is_err() {
            tracing::warn!(within_s = STOP_WITHIN.as_secs(), "{} did not stop; killing it", self.name);
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }

    /// Sends `signal` and waits for the end.
    pub(super) async fn end(&self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal);
        let ended = tokio::time::timeout(END_WITHIN, self.ended()).await;
        ended.map(drop).with_context(|| format!("{} still runs after {signal:?}", self.name))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn signal(&self, signal: Signal) {
        if self.ended.has_changed().is_ok() && self.ended.borrow().is_none() {
            // The child may be ending at this moment.
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop_signal);
    }
}

fn with_death_signal(spawn: &Spawn<'_>) -> Command {
    let Some(setpriv) = setpriv() else {
        tracing::warn!(
            "setpriv of util-linux is not installed: {} keeps running when this process is killed",
            spawn.name
        );
        let mut command = command(spawn.program, spawn.user);
        command.args(&spawn.arguments);
        return command;
    };
    let signal = if spawn.stop_signal == Signal::INT { "INT" } else { "TERM" };
    let mut command = command(&setpriv, spawn.user);
    command.args(["--pdeathsig", signal]).arg(spawn.program).args(&spawn.arguments);
    command
}

/// `None` also for the `setpriv` of BusyBox, which lacks `--pdeathsig`.
fn setpriv() -> Option<PathBuf> {
    let setpriv = find_program("setpriv")?;
    let works = output_of(Command::new(&setpriv).args(["--pdeathsig", "keep", "true"])).is_some();
    works.then_some(setpriv)
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_that_ends_shows_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let lock = crate::lock::acquire(folder.path()).await.unwrap();
        let spawn = Spawn {
            name: "Echo",
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), "echo no room >&2; exit 3".to_owned()],
            user: None,
            stop_signal: Signal::TERM,
            log: folder.path().join("log"),
            lock: &lock,
        };
        let error = Process::spawn(spawn).await.unwrap().ended().await.to_string();
        assert!(error.contains("Echo ended (exit status: 3)") && error.ends_with("no room"), "{error}");
    }
}
