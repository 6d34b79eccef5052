//! The development stack: a private Postgres and Kafka as child processes, for `saga-host dev` and for tests.
//! Postgres is the system's; Kafka is downloaded once. All data is in one folder. Both end together with this
//! process, also when it is killed.
//!
//! ```text
//! DATA/*.lock       one stack per folder
//!      dev.json     addresses, while everything is ready
//!      postgres/    data and socket       postgres.log
//!      kafka/       data and settings     kafka.log
//! ```

mod dev_json;
mod kafka;
mod lock;
mod port;
mod postgres;
mod process;
mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::process::Signal;

pub use self::kafka::Listener;
use self::{dev_json::DevJson, kafka::Kafka, lock::Lock, postgres::Postgres};

/// The default port of Kafka.
pub const KAFKA_PORT: u16 = 7082;
/// The default port of Postgres.
pub const POSTGRES_PORT: u16 = 7083;

/// The data folder and the ports of a stack.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Folder of all data; created when missing. When this process is root and other users may not enter the
    /// folder, the data of Postgres goes to `/var/tmp`.
    pub data: PathBuf,
    /// Whether to remove the data of earlier runs first.
    pub fresh: bool,
    /// Port on loopback; `None` for the Unix socket alone.
    pub postgres_port: Option<u16>,
    /// Port on loopback; `None` for any free one.
    pub kafka_port: Option<u16>,
    /// Further addresses of Kafka.
    pub kafka_listeners: Vec<Listener>,
}

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The broker.
    Kafka,
    /// The postmaster and its children.
    Postgres,
}

/// Process ids of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids {
    /// The broker.
    pub kafka: u32,
    /// The postmaster.
    pub postgres: u32,
}

/// A running Postgres and Kafka. Dropping it signals both to stop without waiting; [`Stack::stop`] waits.
#[derive(Debug)]
pub struct Stack {
    dev_json: DevJson,
    data: PathBuf,
    options: StackOptions,
    postgres: Postgres,
    kafka: Kafka,
    /// The last field, so it is dropped last: the next stack starts only after that.
    lock: Lock,
}

impl Stack {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// A port is taken, Postgres, Java or Maven is not installed, or another stack uses the folder. The
    /// message says what to do.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        fs::create_dir_all(&options.data).with_context(|| format!("creating {}", options.data.display()))?;
        let data = fs::canonicalize(&options.data)?;
        let lock = lock::acquire(&data).await?;
        let dev_json = DevJson::new(&data);
        if options.fresh {
            for folder in ["kafka", "postgres"] {
                remove(&data.join(folder))?;
            }
        }
        let (postgres, kafka) = tokio::try_join!(
            Postgres::start(&data, options.fresh, options.postgres_port, &lock),
            Kafka::start(&data, options.kafka_port, &options.kafka_listeners, &lock),
        )?;
        Ok(Self { dev_json, data, options, postgres, kafka, lock })
    }

    /// Sends a signal to a server and waits until it has ended. The stack stays, without the server.
    ///
    /// # Errors
    /// The server still runs after 60 s.
    pub async fn end(&self, server: Server, signal: Signal) -> anyhow::Result<()> {
        self.process(server).end(signal).await
    }

    /// Starts a server that has ended, on the same data and at the same addresses, and waits until it
    /// answers.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_again(&mut self, server: Server) -> anyhow::Result<()> {
        let options = &self.options;
        match server {
            Server::Kafka => {
                let port = Some(self.kafka.port);
                self.kafka = Kafka::start(&self.data, port, &options.kafka_listeners, &self.lock).await?;
            }
            Server::Postgres => {
                self.postgres = Postgres::start(&self.data, false, options.postgres_port, &self.lock).await?;
            }
        }
        Ok(())
    }

    /// Whether a server has ended.
    #[must_use]
    pub fn has_ended(&self, server: Server) -> bool {
        self.process(server).has_ended()
    }

    fn process(&self, server: Server) -> &process::Process {
        match server {
            Server::Kafka => &self.kafka.process,
            Server::Postgres => &self.postgres.process,
        }
    }

    /// URL of a superuser of the Postgres server, by its Unix socket.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        &self.postgres.url
    }

    /// Bootstrap server, `host:port`.
    #[must_use]
    pub fn kafka_bootstrap(&self) -> &str {
        &self.kafka.bootstrap
    }

    /// Process ids of the children.
    #[must_use]
    pub fn pids(&self) -> Pids {
        Pids { kafka: self.kafka.process.pid(), postgres: self.postgres.process.pid() }
    }

    /// Waits until one of the children ends unexpectedly. The error names it, with the end of its log.
    pub async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            error = self.postgres.process.ended() => error,
            error = self.kafka.process.ended() => error,
        }
    }

    /// Writes `dev.json`: the addresses of the stack, and those of a host on it. Call it when everything is
    /// ready.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_dev_json(&self, http: Option<&str>, admin: Option<&str>) -> anyhow::Result<()> {
        self.dev_json.write(http, admin, self)
    }

    /// Removes `dev.json`, stops Kafka, then Postgres, and waits until both have ended.
    pub async fn stop(self) {
        let Self { dev_json, postgres, kafka, lock: _lock, .. } = self;
        drop(dev_json);
        kafka.process.stop().await;
        postgres.process.stop().await;
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::{os::unix::fs::PermissionsExt, str::FromStr};

    use sqlx::{ConnectOptions, postgres::PgConnectOptions};

    use super::*;

    fn options(data: &Path) -> StackOptions {
        StackOptions {
            data: data.to_owned(),
            fresh: false,
            postgres_port: None,
            kafka_port: None,
            kafka_listeners: Vec::new(),
        }
    }

    async fn tables(stack: &Stack) -> i64 {
        let server = PgConnectOptions::from_str(stack.postgres_url()).unwrap();
        let mut connection = server.database("template1").connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS run ()").execute(&mut connection).await.unwrap();
        sqlx::raw_sql("INSERT INTO run DEFAULT VALUES").execute(&mut connection).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM run").fetch_one(&mut connection).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn runs_once_per_folder_keeps_its_data_and_ends_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let stack = Stack::start(options(folder.path())).await.unwrap();
        assert_eq!(tables(&stack).await, 1);
        let error = Stack::start(options(folder.path())).await.unwrap_err().to_string();
        assert!(error.contains("another"), "{error}");
        stack.write_dev_json(None, None).unwrap();
        let written = fs::read_to_string(folder.path().join("dev.json")).unwrap();
        assert!(written.contains(stack.kafka_bootstrap()) && !written.contains("http"), "{written}");
        let pids = stack.pids();

        // The next start waits until the children of the dropped stack have ended.
        drop(stack);
        assert!(!folder.path().join("dev.json").exists());
        let stack = Stack::start(options(folder.path())).await.unwrap();
        assert_eq!(tables(&stack).await, 2);
        assert_ne!(stack.pids(), pids);
        stack.stop().await;

        let stack = Stack::start(StackOptions { fresh: true, ..options(folder.path()) }).await.unwrap();
        assert_eq!(tables(&stack).await, 1);
        stack.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_is_killed_and_started_again_at_its_address() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let further = Listener { port: port::choose(None, "Kafka", "").unwrap(), advertised: 9 };
        let options = StackOptions { kafka_listeners: vec![further], ..options(folder.path()) };
        let mut stack = Stack::start(options).await.unwrap();
        assert_eq!(tables(&stack).await, 1);
        let (before, kafka) = (stack.pids(), stack.kafka_bootstrap().to_owned());
        for (server, signal) in [(Server::Kafka, Signal::KILL), (Server::Postgres, Signal::QUIT)] {
            stack.end(server, signal).await.unwrap();
            assert!(stack.has_ended(server));
            stack.start_again(server).await.unwrap();
            assert!(!stack.has_ended(server));
        }
        assert_eq!((tables(&stack).await, stack.kafka_bootstrap()), (2, kafka.as_str()));
        let after = stack.pids();
        assert!(after.kafka != before.kafka && after.postgres != before.postgres);
        std::net::TcpStream::connect(("127.0.0.1", further.port)).unwrap();
        stack.stop().await;
    }
}
