//! A private Postgres server, from the system's binaries.

mod home;
mod installation;

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use self::{home::Home, installation::Installation};
use crate::{
    lock::Lock,
    port,
    process::{self, Process, Spawn, User},
};

/// The longest path of a Unix socket that every system accepts, in bytes.
const SOCKET_PATH_MAX: usize = 103;
/// Part of the socket's name when the server listens on no port.
const SOCKET_PORT: u16 = 5432;
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// None of these settings weakens durability.
const SETTINGS: [&str; 6] = [
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// The running server.
#[derive(Debug)]
pub(super) struct Postgres {
    pub url: String,
    pub process: Process,
}

impl Postgres {
    /// Starts it with its data below `data`, and waits until it answers.
    pub(super) async fn start(
        data: &Path,
        fresh: bool,
        port: Option<u16>,
        lock: &Lock,
    ) -> anyhow::Result<Self> {
        let home = Home::find(data)?;
        let cluster = home.folder.join("postgres");
        if fresh {
            crate::remove(&cluster)?;
        }
        let installation = Installation::choose(cluster_version(&cluster)?)?;
        if port.is_some() {
            port::choose(port, "Postgres", "--postgres-port")?;
        }
        if !cluster.join("PG_VERSION").exists() {
            initialise(&installation, &home, &cluster).await?;
        }
        let socket_port = port.unwrap_or(SOCKET_PORT);
        let sockets = socket_folder(data, &cluster, socket_port, home.user)?;
        let process = Process::spawn(Spawn {
            name: "Postgres",
            program: &installation.binaries.join("postgres"),
            arguments: arguments(&cluster, &sockets, socket_port, port.is_some()),
            user: home.user,
            stop_signal: Signal::INT,
            log: data.join("postgres.log"),
            lock,
        })
        .await?;
        let postgres = Self { url: url(&sockets, socket_port), process };
        let server = PgConnectOptions::from_str(&postgres.url)?;
        tokio::select! {
            answered = tokio::time::timeout(READY_WITHIN, answers(server)) => {
                let log = data.join("postgres.log");
                answered.with_context(|| format!("Postgres does not answer; see {}", log.display()))?;
            }
            ended = postgres.process.ended() => return Err(ended),
        }
        Ok(postgres)
    }
}

async fn answers(server: PgConnectOptions) {
    while server.connect().await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}

fn arguments(cluster: &Path, sockets: &Path, port: u16, listens: bool) -> Vec<String> {
    let mut arguments = vec!["-D".to_owned(), cluster.display().to_string()];
    let addresses = format!("listen_addresses={}", if listens { "127.0.0.1" } else { "" });
    let sockets = format!("unix_socket_directories={}", sockets.display());
    let port = format!("port={port}");
    for setting in SETTINGS.into_iter().chain([addresses.as_str(), &sockets, &port]) {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    arguments
}

/// In the URL, the folder of the socket takes the place of the host name; libpq and sqlx both accept that.
fn url(sockets: &Path, port: u16) -> String {
    let mut host = String::new();
    for byte in sockets.display().to_string().bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            host.push(char::from(byte));
        } else {
            host.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("postgres://postgres@{host}:{port}/postgres")
}

/// The cluster's own folder, which is private. A folder below `/tmp` when that path is too long for a socket.
fn socket_folder(data: &Path, cluster: &Path, port: u16, user: Option<User>) -> anyhow::Result<PathBuf> {
    if cluster.join(format!(".s.PGSQL.{port}")).as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(cluster.to_owned());
    }
    let folder = Path::new("/tmp").join(home::short_name(data));
    let created = private_folder(&folder, user);
    let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    let ours = fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir() && found.uid() == owner);
    ensure!(ours, "{} cannot be made private ({created:?}); remove it", folder.display());
    Ok(folder)
}

fn private_folder(folder: &Path, user: Option<User>) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    match user {
        Some(user) => chown(folder, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Creates the cluster next to its final folder, and renames it when it is complete.
async fn initialise(installation: &Installation, home: &Home, cluster: &Path) -> anyhow::Result<()> {
    let part = home.folder.join("postgres.part");
    crate::remove(&part)?;
    private_folder(&part, home.user).with_context(|| format!("creating {}", part.display()))?;
    let mut initdb = process::command(&installation.binaries.join("initdb"), home.user);
    initdb.args(["-A", "trust", "-E", "UTF8", "--locale=C", "-U", "postgres", "-D"]).arg(&part);
    let output = tokio::process::Command::from(initdb).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.context("starting initdb")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "initdb cannot create the data folder of Postgres:\n{printed}");
    crate::remove(cluster)?;
    fs::rename(&part, cluster).with_context(|| format!("creating {}", cluster.display()))
}

fn cluster_version(cluster: &Path) -> anyhow::Result<Option<u32>> {
    match fs::read_to_string(cluster.join("PG_VERSION")) {
        Ok(text) => {
            Ok(Some(text.trim().parse().with_context(|| format!("{}/PG_VERSION", cluster.display()))?))
        }
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_url_names_the_socket() {
        let options = PgConnectOptions::from_str(&url(Path::new("/data/a b/postgres"), 7083)).unwrap();
        assert_eq!(options.get_socket().unwrap(), Path::new("/data/a b/postgres"));
        assert_eq!((options.get_port(), options.get_username()), (7083, "postgres"));
    }
}
