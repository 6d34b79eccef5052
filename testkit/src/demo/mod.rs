//! The order saga for newcomers: starts everything, places orders, shows their timelines, and swaps in a
//! changed component while the host runs. It checks everything that it shows.

mod order;
mod show;
mod swap;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::caller::Request;
use crate::database::Databases;
use crate::host_process::{HostProcess, StartOptions};
use crate::plugin_folder;
use crate::quiet;
use crate::target::Target;

use order::Expected;

const EFFECT_WITHIN: Duration = Duration::from_secs(30);
const STOCK: i64 = 10;
/// A number that no product has, the second highest in the wire contract.
const NO_PRODUCT: i64 = 2_147_483_646;
const STOPPED_EARLY: &str = "stopped by a signal before the demo was complete";

/// Options of `saga-testkit demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Exit after the last step, instead of staying up
    #[arg(long)]
    exit: bool,
    /// Folder for data, logs and a copy of the plugins; kept
    #[arg(long, default_value = ".saga-host")]
    data: PathBuf,
    /// The saga-host to start [default: beside this program]
    #[arg(long)]
    host_binary: Option<PathBuf>,
    /// Folder of the plugins
    #[arg(long, default_value = "plugins/dist")]
    plugins: PathBuf,
    /// Seconds until everything must be ready
    #[arg(long, default_value_t = 120)]
    ready_s: u64,
}

/// Runs `saga-testkit demo`.
///
/// # Errors
/// A process did not start, or a result differs from the expected one.
pub async fn run(options: Options) -> Result<()> {
    let plugins = plugin_folder::copy(&options.plugins, &options.data.join("plugins"), swap::PLUGIN)?;
    let start = StartOptions {
        host_binary: options.host_binary,
        plugins,
        folder: options.data,
        ready_s: options.ready_s,
        environment: Vec::new(),
    };
    let mut stopped = Stopped::listen()?;
    show::step("starting Postgres, Kafka and the host with five plugins");
    let began = Instant::now();
    let (mut host, target) = tokio::select! {
        started = HostProcess::dev_kept(&start) => started?,
        () = stopped.wait() => bail!(STOPPED_EARLY),
    };
    show::done(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    let demo = Demo { databases: Databases::new(&target.postgres)?, target, start };
    let mut outcome = tokio::select! {
        outcome = demo.play() => outcome,
        () = stopped.wait() => Err(anyhow!(STOPPED_EARLY)),
    };
    demo.databases.close().await;
    if outcome.is_ok() && !options.exit {
        outcome = demo.stay_up(&mut host, &mut stopped).await;
    }
    outcome?;
    show::step("all as promised; stopping");
    host.stop().await
}

/// SIGINT and SIGTERM.
struct Stopped {
    interrupt: Signal,
    terminate: Signal,
}

impl Stopped {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The running system.
struct Demo {
    start: StartOptions,
    target: Target,
    databases: Databases,
}

impl Demo {
    async fn play(&self) -> Result<()> {
        self.addresses()?;
        let product = self.create_product().await?;
        let first = STOCK - 3;
        self.order("an order with enough in stock", product, first, &Expected::confirmed(STOCK - first))
            .await?;
        self.order("an order for exactly what is left", product, STOCK - first, &Expected::confirmed(0))
            .await?;
        self.order("an order for more than there is", product, 1, &Expected::cancelled(Some(0))).await?;
        self.order("an order for a product that does not exist", NO_PRODUCT, 1, &Expected::cancelled(None))
            .await?;
        self.swap(product).await
    }

    async fn stay_up(&self, host: &mut HostProcess, stopped: &mut Stopped) -> Result<()> {
        show::step("all as promised; it stays up, Ctrl-C stops it");
        self.addresses()?;
        tokio::select! {
            ended = host.ends() => Err(ended?),
            () = stopped.wait() => Ok(()),
        }
    }

    fn addresses(&self) -> Result<()> {
        show::value("services", &format!("http://{}", self.target.http()?));
        show::value("host API", &format!("http://{}", self.target.admin()?));
        show::value("Kafka", &self.target.kafka);
        show::value("Postgres", &self.target.postgres);
        show::value("plugins", &self.start.plugins.display().to_string());
        show::value("log", &self.start.folder.join("dev.log").display().to_string());
        Ok(())
    }

    async fn create_product(&self) -> Result<i64> {
        show::step(&format!("a new product, {STOCK} in stock"));
        let body = format!(r#"{{"qty":{STOCK}}}"#);
        let reply = Request::post("/stocks", body).send(self.target.http()?).await?.expect(201)?;
        let product = reply.member("productId")?.as_i64().context("productId is not a number")?;
        self.stock_is(product, STOCK).await?;
        show::done(&format!("product {product}: {STOCK} in stock on both sides"));
        Ok(product)
    }
}

/// Repeats a check until it passes; after 30 s, returns its last failure.
async fn eventually<T>(check: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    quiet::eventually(EFFECT_WITHIN, check).await
}
