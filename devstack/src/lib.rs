//! The development stack: the system's own Postgres and real Kafka as child processes, with their data
//! in one folder. Both end with this process, also when it is killed.
//!
//! ```text
//! DATA/*.lock       one stack per folder
//!      dev.json     addresses, while everything is ready
//!      postgres/    its data and socket       postgres.log
//!      kafka/       its data and settings     kafka.log
//! ```

mod dev_json;
mod jars;
mod kafka;
mod lock;
mod mock;
mod place;
mod postgres;
mod process;

use std::{fs, path::PathBuf};

use anyhow::Context;

use self::{
    dev_json::DevJson,
    kafka::{Installation, Kafka},
    lock::Lock,
    mock::Mock,
    postgres::Postgres,
};

/// Where the stack's Kafka listens when nothing else is asked for.
pub const KAFKA_PORT: u16 = 7082;
/// Where the stack's Postgres listens when nothing else is asked for.
pub const POSTGRES_PORT: u16 = 7083;

/// What to start.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Folder of all data; made when missing. As root, data of Postgres goes to `/var/tmp` when
    /// other users may not enter this folder.
    pub data: PathBuf,
    /// Whether what earlier runs left is removed first.
    pub fresh: bool,
    /// Port on loopback; none: only the Unix socket.
    pub postgres_port: Option<u16>,
    /// Port on loopback; none: one that is free.
    pub kafka_port: Option<u16>,
}

/// Process ids of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pids {
    /// The broker; none when it lives in this process.
    pub kafka: Option<u32>,
    /// The postmaster.
    pub postgres: Option<u32>,
}

#[derive(Debug)]
enum Broker {
    Kafka(Kafka),
    Mock(Mock),
}

/// A running Postgres and Kafka. Dropped without [`Stack::stop`], both are asked to end, but not waited for.
#[derive(Debug)]
pub struct Stack {
    dev_json: DevJson,
    postgres: Postgres,
    broker: Broker,
    /// Last: the next stack may start when this has let go of the children.
    _lock: Lock,
}

impl Stack {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// The message says what to do: a port is taken, Postgres is not installed, another stack uses the
    /// folder.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        fs::create_dir_all(&options.data).with_context(|| format!("making {}", options.data.display()))?;
        let data = fs::canonicalize(&options.data)?;
        let lock = lock::acquire(&data).await?;
        let dev_json = DevJson::new(&data);
        if options.fresh {
            for folder in ["kafka", "postgres"] {
                remove(&data.join(folder))?;
            }
        }
        let (postgres, broker) = tokio::try_join!(
            Postgres::start(&data, options.fresh, options.postgres_port, &lock),
            start_broker(&data, options.kafka_port, &lock),
        )?;
        Ok(Self { dev_json, postgres, broker, _lock: lock })
    }

    /// URL of the server, by its Unix socket, of a superuser.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        &self.postgres.url
    }

    /// Bootstrap server, `host:port`.
    #[must_use]
    pub fn kafka_bootstrap(&self) -> &str {
        match &self.broker {
            Broker::Kafka(kafka) => &kafka.bootstrap,
            Broker::Mock(mock) => &mock.bootstrap,
        }
    }

    /// Process ids of the children.
    #[must_use]
    pub fn pids(&self) -> Pids {
        let kafka = match &self.broker {
            Broker::Kafka(kafka) => Some(kafka.process.pid()),
            Broker::Mock(_) => None,
        };
        Pids { kafka, postgres: Some(self.postgres.process.pid()) }
    }

    /// Waits until one of them ends by itself, and says which and why.
    pub async fn failed(&self) -> anyhow::Error {
        let kafka = async {
            match &self.broker {
                Broker::Kafka(kafka) => kafka.process.ended().await,
                Broker::Mock(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.postgres.process.ended() => error,
            error = kafka => error,
        }
    }

    /// Writes `dev.json`: the addresses of both, and of the host when there is one. Call it when all is
    /// ready.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_dev_json(&self, http: Option<&str>, admin: Option<&str>) -> anyhow::Result<()> {
        self.dev_json.write(http, admin, self)
    }

    /// Removes `dev.json`, stops Kafka, then Postgres, and waits for their end.
    pub async fn stop(self) {
        let Self { dev_json, postgres, broker, _lock } = self;
        drop(dev_json);
        if let Broker::Kafka(kafka) = broker {
            kafka.process.stop().await;
        }
        postgres.process.stop().await;
    }
}

async fn start_broker(data: &std::path::Path, port: Option<u16>, lock: &Lock) -> anyhow::Result<Broker> {
    if let Some(installation) = Installation::find().await? {
        return Ok(Broker::Kafka(Kafka::start(&installation, data, port, lock).await?));
    }
    let mock = Mock::start().await?;
    tracing::warn!(
        address = mock.bootstrap,
        "no Java 17 with Maven here: librdkafka's mock broker serves instead and forgets everything at its end, so that \
         Postgres must forget it too: start with --fresh each time; for real Kafka: {}",
        process::install("default-jre-headless maven", "java-latest-openjdk-headless maven", "openjdk maven")
    );
    Ok(Broker::Mock(mock))
}

fn remove(folder: &std::path::Path) -> anyhow::Result<()> {
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
    use std::{os::unix::fs::PermissionsExt, path::Path, str::FromStr};

    use sqlx::{ConnectOptions, postgres::PgConnectOptions};

    use super::*;

    fn options(data: &Path) -> StackOptions {
        StackOptions { data: data.to_owned(), fresh: false, postgres_port: None, kafka_port: None }
    }

    async fn tables(stack: &Stack) -> i64 {
        let server = PgConnectOptions::from_str(stack.postgres_url()).unwrap();
        let mut connection = server.database("template1").connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS run ()").execute(&mut connection).await.unwrap();
        sqlx::raw_sql("INSERT INTO run DEFAULT VALUES").execute(&mut connection).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM run").fetch_one(&mut connection).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn serves_alone_keeps_its_data_and_ends_when_dropped() {
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

        // The next start waits for the end of what the drop asked to end.
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

    #[tokio::test]
    async fn the_mock_broker_answers() {
        let mock = Mock::start().await.unwrap();
        tokio::net::TcpStream::connect(&mock.bootstrap).await.unwrap();
    }
}
