//! A private Kafka broker: one node in KRaft mode, only on loopback.

mod installation;
mod jars;

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer},
};
use rustix::process::Signal;
use tokio::net::TcpStream;

use self::installation::Installation;
use crate::{
    lock::Lock,
    port,
    process::{Process, Spawn},
};

/// Any 22 characters of base64url will do: the node never meets another cluster.
const CLUSTER_ID: &str = "c2FnYS1ob3N0LWRldi0wMA";
const LOG_SETTINGS: &str = include_str!("log4j2.properties");
const READY_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// A further address of the broker. Clients that use it are told to connect to another port, where a proxy
/// may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Port on loopback on which the broker listens.
    pub port: u16,
    /// Port on loopback that the broker gives to clients.
    pub advertised: u16,
}

/// The running broker.
#[derive(Debug)]
pub(super) struct Kafka {
    pub bootstrap: String,
    pub port: u16,
    pub process: Process,
}

impl Kafka {
    /// Starts it on `port` with its data below `data`, and waits until it answers.
    pub(super) async fn start(
        data: &Path,
        port: Option<u16>,
        further: &[Listener],
        lock: &Lock,
    ) -> anyhow::Result<Self> {
        let installation = Installation::find().await?;
        let port = port::choose(port, "Kafka", "--kafka-port")?;
        let controller_port = port::choose(None, "Kafka's controller", "--kafka-port")?;
        let folder = data.join("kafka");
        let log_folder = folder.join("log");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let settings = folder.join("server.properties");
        fs::write(&settings, server_properties(&log_folder, port, controller_port, further))?;
        fs::write(folder.join("log4j2.properties"), LOG_SETTINGS)?;
        if !log_folder.join("meta.properties").exists() {
            format(&installation, &folder, &settings).await?;
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
        let kafka = Self { bootstrap: format!("127.0.0.1:{port}"), port, process };
        tokio::select! {
            answered = tokio::time::timeout(READY_WITHIN, answers(&kafka.bootstrap)) => {
                let log = data.join("kafka.log");
                answered.with_context(|| format!("Kafka does not answer; see {}", log.display()))?;
            }
            ended = kafka.process.ended() => return Err(ended),
        }
        Ok(kafka)
    }
}

/// Writes the cluster's id. Kafka writes `meta.properties` last, so an interrupted format is repeated.
async fn format(installation: &Installation, folder: &Path, settings: &Path) -> anyhow::Result<()> {
    let settings = settings.display().to_string();
    let main = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", CLUSTER_ID, "-c", &settings];
    let output = tokio::process::Command::new(&installation.java)
        .args(installation.arguments(folder, &main))
        .kill_on_drop(true)
        .output()
        .await
        .context("starting Java")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "Kafka cannot format its storage:\n{printed}");
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
    let answer = tokio::task::spawn_blocking(move || {
        let client: BaseProducer = config.create().ok()?;
        let metadata = client.client().fetch_metadata(None, Duration::from_secs(5)).ok()?;
        Some(!metadata.brokers().is_empty())
    });
    answer.await.ok().flatten().unwrap_or(false)
}

fn server_properties(log_folder: &Path, port: u16, controller_port: u16, further: &[Listener]) -> String {
    let each = |text: fn(usize, &Listener) -> String| -> String {
        further.iter().enumerate().map(|(number, listener)| text(number, listener)).collect()
    };
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listening}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
         inter.broker.listener.name=PLAINTEXT\n\
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
        listening = each(|number, listener| format!(",FURTHER{number}://127.0.0.1:{}", listener.port)),
        advertised = each(|number, listener| format!(",FURTHER{number}://127.0.0.1:{}", listener.advertised)),
        protocols = each(|number, _| format!(",FURTHER{number}:PLAINTEXT")),
        // A backslash starts an escape sequence in this format.
        log_folder = log_folder.display().to_string().replace('\\', "\\\\"),
    )
}
