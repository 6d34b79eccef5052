//! The Postgres server, and the pool of each database, which uses the host's own account.

use std::{
    fs,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use sqlx::{
    ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::login::Logins;

/// Connections of the host's own account to one database, at most. The relay keeps two while it leads, one of
/// them for its lease, and the notifier listens on one while there are peers.
const ADMIN_CONNECTIONS_MAX: u32 = 6;
/// A pooled connection that was idle for longer is pinged before use: the server may have closed it
/// meanwhile.
const UNTESTED_IDLE_MAX: Duration = Duration::from_secs(1);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements find rows by key, in tables that may be empty when a plan is made or the table is analysed, and
/// that keep dead rows until they are vacuumed. Otherwise Postgres would cache a plan that scans the whole
/// table, and its cost would trigger JIT.
pub(super) const PLANNER_OPTIONS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];
/// Migrations of plugins can create functions and operators in other schemas, which must not be taken for
/// those of Postgres. The host names its own tables in full.
const SEARCH_PATH: (&str, &str) = ("search_path", "pg_catalog");

/// What an address has as `%XX` in a password.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The error of a connection to the address of the setting `postgres`.
pub(super) fn cannot_connect(options: &PgConnectOptions, error: sqlx::Error) -> anyhow::Error {
    let (host, port) = (options.get_host(), options.get_port());
    // sqlx repeats the cause of a network error in a prefix.
    let error = match error {
        sqlx::Error::Io(error) => anyhow::Error::from(error),
        other => other.into(),
    };
    error.context(format!(
        "cannot connect to Postgres at {host}:{port}, check --postgres (SAGA_HOST_POSTGRES)"
    ))
}

/// The Postgres server of the setting `postgres`, with the host's own account. Clones share it.
#[derive(Clone, Debug)]
pub struct Server {
    url: String,
    password_file: Option<Arc<PasswordFile>>,
    /// Whether what a guest could misuse is reported in the log only.
    pub(super) development: bool,
}

/// The file of the account's password. It is read again for each connection, so the password can change.
#[derive(Debug)]
struct PasswordFile {
    path: PathBuf,
    /// What was read last: used while the file cannot be read.
    password: Mutex<String>,
    unreadable: AtomicBool,
}

impl PasswordFile {
    fn read(&self) -> std::io::Result<String> {
        fs::read_to_string(&self.path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn password(&self) -> String {
        match self.read() {
            Ok(password) => {
                self.unreadable.store(false, Ordering::Release);
                self.password.lock().clone_from(&password);
                password
            }
            Err(error) => {
                if !self.unreadable.swap(true, Ordering::AcqRel) {
                    tracing::warn!(
                        file = %self.path.display(),
                        "cannot read the password of Postgres, using the last one: {error}"
                    );
                }
                self.password.lock().clone()
            }
        }
    }
}

impl Server {
    /// Reads the address `postgres://user:password@host:port/database`.
    ///
    /// # Errors
    /// The address has another form.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        parse(url)
            .context("the Postgres address must have the form postgres://user:password@host:port/database")?;
        Ok(Self { url: url.to_owned(), password_file: None, development: false })
    }

    /// Takes the account's password from a file, which is read again for each new connection.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn with_password_file(self, path: PathBuf) -> anyhow::Result<Self> {
        let file = PasswordFile { path, password: Mutex::default(), unreadable: AtomicBool::new(false) };
        let password = file.read().with_context(|| format!("cannot read {}", file.path.display()))?;
        *file.password.lock() = password;
        Ok(Self { password_file: Some(Arc::new(file)), ..self })
    }

    /// For development: rights that a guest could misuse do not prevent the start.
    #[must_use]
    pub fn for_development(self, development: bool) -> Self {
        Self { development, ..self }
    }

    /// How to connect with the host's own account. Reads the password again, from the file of the setting or
    /// from `.pgpass`; the files of certificates are read when a connection is made.
    pub(super) fn options(&self) -> PgConnectOptions {
        let mut options = parse(&self.url).unwrap_or_default();
        if let Some(file) = &self.password_file {
            options = options.password(&file.password());
        }
        options
    }

    /// How the pool of a database connects.
    fn pool_options(&self, database: &str) -> PgConnectOptions {
        self.options().database(database).options(PLANNER_OPTIONS).options([SEARCH_PATH])
    }

    /// What the password of a plugin's role can have been before passwords were stored: derived from that of
    /// the account, as the address has it or had it before it was moved into the file.
    pub(super) fn derived_passwords(&self, role: &str) -> Vec<String> {
        let secrets = match (password_of(&self.url), &self.password_file) {
            (Some(secret), _) => vec![secret],
            (None, Some(file)) => {
                let password = file.password();
                let encoded = utf8_percent_encode(&password, ENCODED).to_string();
                vec![password, encoded]
            }
            (None, None) => Vec::new(),
        };
        secrets.iter().filter_map(|secret| derived(secret, role)).collect()
    }

    /// A database, accessed with the host's own account. Connects on first use.
    #[must_use]
    pub fn database(&self, name: &str) -> Database {
        let admin = PgPoolOptions::new()
            .max_connections(ADMIN_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                let recently_used = metadata.idle_for < UNTESTED_IDLE_MAX;
                Box::pin(async move { Ok(recently_used || connection.ping().await.is_ok()) })
            })
            .connect_lazy_with(self.pool_options(name));
        Database { name: name.to_owned(), admin, server: self.clone(), logins: Arc::default() }
    }
}

fn parse(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("saga-host").disable_statement_logging())
}

fn derived(secret: &str, role: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(b"saga-host role ");
    mac.update(role.as_bytes());
    Some(hex::encode(mac.finalize().into_bytes()))
}

fn password_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// One database with its pool. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Database {
    /// Name of the database. It is no identity: other databases can have the same name.
    pub name: String,
    /// Uses the host's own account: for claims, the relay, timers, the host API.
    pub admin: PgPool,
    pub(super) server: Server,
    pub(super) logins: Arc<Logins>,
}

impl Database {
    /// Lets new connections of the pool use the account's present password.
    pub fn refresh_credentials(&self) {
        self.admin.set_connect_options(self.server.pool_options(&self.name));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{Server, password_of};

    #[test]
    fn an_address_may_have_a_password() {
        assert_eq!(password_of("postgres://u:p@h/db").as_deref(), Some("p"));
        assert_eq!(password_of("postgres://u:p:q@h").as_deref(), Some("p:q"));
        assert_eq!(password_of("postgres://u@h/db?host=/tmp"), None);
        assert_eq!(password_of("postgres:///db?host=/tmp/a:b@c"), None);
    }

    #[test]
    fn a_password_of_the_account_that_moves_into_the_file_derives_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (encoded, password) in [("secret", "secret"), ("p%40ss-%2F", "p@ss-/")] {
            let before = Server::new(&format!("postgres://u:{encoded}@h/db")).unwrap();
            std::fs::write(&path, format!("{password}\n")).unwrap();
            let after = Server::new("postgres://u@h/db").unwrap().with_password_file(path.clone()).unwrap();
            let derived = before.derived_passwords("plugin_a");
            assert_eq!(derived.len(), 1);
            assert!(after.derived_passwords("plugin_a").contains(&derived[0]), "{password}");
        }
        assert!(Server::new("postgres://u@h/db").unwrap().derived_passwords("plugin_a").is_empty());
    }

    #[test]
    fn a_password_file_is_read_again_and_its_last_content_used_while_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let server = Server::new("postgres://u@h/db").unwrap();
        assert!(server.clone().with_password_file(path.clone()).is_err());
        std::fs::write(&path, "one\n").unwrap();
        let file = server.with_password_file(path.clone()).unwrap().password_file.unwrap();
        assert_eq!(file.password(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.password(), "two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.password(), "two");
    }
}
