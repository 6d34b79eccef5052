//! A Postgres server of its own, from the system's binaries.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use super::{
    lock::Lock,
    place::{self, Place},
    process::{self, Process, Spawn, User},
};

const OLDEST: u32 = 14;
/// Longest path of a Unix socket that every system takes, in bytes.
const SOCKET_PATH_MAX: usize = 103;
/// Names the socket when no port is asked for.
const SOCKET_PORT: u16 = 5432;
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// Nothing here weakens durability.
const SETTINGS: [&str; 6] = [
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "checkpoint_timeout=15min",
    "timezone=UTC",
    "log_timezone=UTC",
];

/// A folder with `postgres` and `initdb`, and their major version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Installation {
    version: u32,
    binaries: PathBuf,
}

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
        let place = Place::find(data)?;
        let cluster = place.folder.join("postgres");
        if fresh {
            super::remove(&cluster)?;
        }
        let installation = choose(installations(), cluster_version(&cluster)?)?;
        if let Some(port) = port {
            process::port(Some(port), "Postgres", "--postgres-port")?;
        }
        if !cluster.join("PG_VERSION").exists() {
            initialise(&installation, &place, &cluster).await?;
        }
        let socket_port = port.unwrap_or(SOCKET_PORT);
        let sockets = socket_folder(data, &cluster, socket_port, place.user)?;
        let process = Process::spawn(Spawn {
            name: "Postgres",
            program: &installation.binaries.join("postgres"),
            arguments: arguments(&cluster, &sockets, socket_port, port.is_some()),
            user: place.user,
            stop_signal: Signal::INT,
            log: data.join("postgres.log"),
            lock,
        })
        .await?;
        let postgres = Self { url: url(&sockets, socket_port), process };
        let server = PgConnectOptions::from_str(&postgres.url)?;
        tokio::select! {
            answered = tokio::time::timeout(READY_WITHIN, answers(server)) => {
                answered.with_context(|| format!("Postgres does not answer; see {}", data.join("postgres.log").display()))?;
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

/// Sockets are in the host's place of a URL, which libpq and sqlx both read.
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

/// The cluster's own folder is private; one in `/tmp` when that is too long for a socket.
fn socket_folder(data: &Path, cluster: &Path, port: u16, user: Option<User>) -> anyhow::Result<PathBuf> {
    if cluster.join(format!(".s.PGSQL.{port}")).as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(cluster.to_owned());
    }
    let folder = Path::new("/tmp").join(place::short_name(data));
    let made = private_folder(&folder, user);
    let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), |user| user.uid);
    let ours = fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir() && found.uid() == owner);
    ensure!(ours, "{} cannot be made private ({made:?}); remove it", folder.display());
    Ok(folder)
}

fn private_folder(folder: &Path, user: Option<User>) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    match user {
        Some(user) => chown(folder, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// Makes a cluster beside its place and moves it there when it is whole.
async fn initialise(installation: &Installation, place: &Place, cluster: &Path) -> anyhow::Result<()> {
    let part = place.folder.join("postgres.part");
    super::remove(&part)?;
    private_folder(&part, place.user).with_context(|| format!("making {}", part.display()))?;
    let mut initdb = process::command(&installation.binaries.join("initdb"), place.user);
    initdb.args(["-A", "trust", "-E", "UTF8", "--locale=C", "-U", "postgres", "-D"]).arg(&part);
    let output = tokio::process::Command::from(initdb).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.context("starting initdb")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "initdb cannot make the data folder of Postgres:\n{said}");
    super::remove(cluster)?;
    fs::rename(&part, cluster).with_context(|| format!("making {}", cluster.display()))
}

fn cluster_version(cluster: &Path) -> anyhow::Result<Option<u32>> {
    match fs::read_to_string(cluster.join("PG_VERSION")) {
        Ok(text) => {
            Ok(Some(text.trim().parse().with_context(|| format!("{}/PG_VERSION", cluster.display()))?))
        }
        Err(_) => Ok(None),
    }
}

/// The newest, or the one that wrote the data.
fn choose(mut found: Vec<Installation>, data: Option<u32>) -> anyhow::Result<Installation> {
    found.retain(|installation| installation.version >= OLDEST);
    let newest = found.iter().max().cloned();
    let Some(newest) = newest else {
        let install = process::install("postgresql", "postgresql-server", "postgresql@17");
        bail!("no Postgres {OLDEST} or later here: {install}");
    };
    let Some(version) = data else { return Ok(newest) };
    found.into_iter().find(|installation| installation.version == version).with_context(|| {
        format!(
            "the data is of Postgres {version}, here is {}: install {version}, or begin anew with --fresh",
            newest.version
        )
    })
}

fn installations() -> Vec<Installation> {
    let mut folders = Vec::new();
    folders.extend(process::find_program("postgres").and_then(|program| parent(&program)));
    for versions in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr"] {
        let entries = fs::read_dir(versions).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path().join("bin")));
    }
    let told = process::find_program("pg_config")
        .and_then(|program| process::output_of(Command::new(program).arg("--bindir")));
    folders.extend(told.map(|folder| PathBuf::from(folder.trim())));
    folders.retain(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    folders.sort();
    folders.dedup();
    folders.into_iter().filter_map(inspect).collect()
}

fn inspect(binaries: PathBuf) -> Option<Installation> {
    let told = process::output_of(Command::new(binaries.join("postgres")).arg("--version"))?;
    Some(Installation { version: major_version(&told)?, binaries })
}

/// `postgres (PostgreSQL) 17.6 (Debian 17.6-1)` is 17; so is `17beta1`.
fn major_version(told: &str) -> Option<u32> {
    let version = told.split_whitespace().nth(2)?;
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

fn parent(program: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(program).ok()?.parent()?.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn installation(version: u32) -> Installation {
        Installation { version, binaries: PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")) }
    }

    #[test]
    fn takes_the_newest_unless_the_data_is_older() {
        let all = || vec![installation(13), installation(15), installation(17), installation(16)];
        assert_eq!(choose(all(), None).unwrap().version, 17);
        assert_eq!(choose(all(), Some(15)).unwrap().version, 15);
        for (found, data, says) in [
            (all(), Some(14), "--fresh"),
            (vec![installation(13)], None, "install"),
            (vec![], None, "install"),
        ] {
            let error = choose(found, data).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_version_is_read_from_every_build() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("bash"), None);
    }

    #[test]
    fn the_url_names_the_socket() {
        let options = PgConnectOptions::from_str(&url(Path::new("/data/a b/postgres"), 7083)).unwrap();
        assert_eq!(options.get_socket().unwrap(), Path::new("/data/a b/postgres"));
        assert_eq!((options.get_port(), options.get_username()), (7083, "postgres"));
    }
}
