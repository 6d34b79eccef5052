//! A Kafka broker of its own: one node in KRaft mode, only on loopback.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer},
};
use rustix::process::Signal;
use tokio::net::TcpStream;

use super::{
    jars,
    lock::Lock,
    process::{self, Process, Spawn},
};

/// Any 22 characters of base64url: the node meets no other cluster.
const CLUSTER_ID: &str = "c2FnYS1ob3N0LWRldi0wMA";
const LOG_SETTINGS: &str = include_str!("kafka-log4j2.properties");
/// Kafka 4 runs on Java 17 and later.
const JAVA_MINIMUM: u32 = 17;
/// A heap for development; parallel collection does not pay here.
const JVM: [&str; 2] = ["-Xmx512m", "-XX:+UseSerialGC"];
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// What Kafka is run with.
pub(super) struct Installation {
    java: PathBuf,
    class_path: String,
}

impl Installation {
    /// Java and the jars, which are fetched when they are missing; `None` without Java or Maven.
    pub(super) async fn find() -> anyhow::Result<Option<Self>> {
        let Some(java) = java() else { return Ok(None) };
        Ok(jars::class_path().await?.map(|class_path| Self { java, class_path }))
    }

    fn arguments(&self, folder: &Path, main: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = JVM.iter().map(ToString::to_string).collect();
        arguments.push(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()));
        arguments.extend(["-cp".to_owned(), self.class_path.clone()]);
        arguments.extend(main.iter().map(ToString::to_string));
        arguments
    }
}

/// The running broker.
#[derive(Debug)]
pub(super) struct Kafka {
    pub bootstrap: String,
    pub process: Process,
}

impl Kafka {
    /// Starts it on `port` with its data below `data`, and waits until it answers.
    pub(super) async fn start(
        installation: &Installation,
        data: &Path,
        port: Option<u16>,
        lock: &Lock,
    ) -> anyhow::Result<Self> {
        let port = process::port(port, "Kafka", "--kafka-port")?;
        let controller_port = process::port(None, "Kafka's controller", "--kafka-port")?;
        let folder = data.join("kafka");
        let log_folder = folder.join("log");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let settings = folder.join("server.properties");
        fs::write(&settings, server_properties(&log_folder, port, controller_port))?;
        fs::write(folder.join("log4j2.properties"), LOG_SETTINGS)?;
        if !log_folder.join("meta.properties").exists() {
            format(installation, &folder, &settings).await?;
        }
        let process = Process::spawn(Spawn {
            name: "Kafka",
            program: &installation.java,
            arguments: installation.arguments(&folder, &["kafka.Kafka", &settings.display().to_string()]),
            user: None,
            stop_signal: Signal::TERM,
            log: data.join("kafka.log"),
            lock,
        })
        .await?;
        let kafka = Self { bootstrap: format!("127.0.0.1:{port}"), process };
        tokio::select! {
            answered = tokio::time::timeout(READY_WITHIN, answers(&kafka.bootstrap)) => {
                answered.with_context(|| format!("Kafka does not answer; see {}", data.join("kafka.log").display()))?;
            }
            ended = kafka.process.ended() => return Err(ended),
        }
        Ok(kafka)
    }
}

/// `JAVA_HOME`'s, or the one in `PATH`, when it is new enough.
fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let found = home.into_iter().chain(process::find_program("java"));
    found.into_iter().find(|java| {
        let version = process::output_of(Command::new(java).arg("-version"));
        version.and_then(|text| java_version(&text)).is_some_and(|version| version >= JAVA_MINIMUM)
    })
}

/// The major version in the output of `java -version`; 1 for Java 8 and before.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Writes the cluster's id; `meta.properties` comes last, so that half a format is made anew.
async fn format(installation: &Installation, folder: &Path, settings: &Path) -> anyhow::Result<()> {
    let settings = settings.display().to_string();
    let main = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER_ID, "-c", &settings];
    let output = tokio::process::Command::new(&installation.java)
        .args(installation.arguments(folder, &main))
        .kill_on_drop(true)
        .output()
        .await
        .context("starting Java")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "Kafka cannot format its storage:\n{said}");
    Ok(())
}

/// Waits for the port, then for a broker in the metadata.
async fn answers(bootstrap: &str) {
    while TcpStream::connect(bootstrap).await.is_err() {
        tokio::time::sleep(POLL).await;
    }
    while !has_broker(bootstrap).await {
        tokio::time::sleep(POLL).await;
    }
}

async fn has_broker(bootstrap: &str) -> bool {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseProducer = config.create().ok()?;
        let metadata = client.client().fetch_metadata(None, Duration::from_secs(5)).ok()?;
        Some(!metadata.brokers().is_empty())
    });
    asked.await.ok().flatten().unwrap_or(false)
}

fn server_properties(log_folder: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={log_folder}\n\
         num.network.threads=1\n\
         num.io.threads=1\n\
         auto.create.topics.enable=false\n\
         offsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.cleaner.dedupe.buffer.size=16777216\n",
        // A backslash begins an escape in this format.
        log_folder = log_folder.display().to_string().replace('\\', "\\\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::java_version;

    #[test]
    fn java_tells_its_version_in_quotes() {
        for (text, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("openjdk version \"25\" 2025-09-16", Some(25)),
            ("openjdk version \"26-ea\"", Some(26)),
            ("java version \"1.8.0_202\"", Some(1)),
            ("The operation couldn't be completed.", None),
        ] {
            assert_eq!(java_version(text), version, "{text}");
        }
    }
}
