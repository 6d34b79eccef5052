//! Closed-loop load: every client places an order, waits for the end of its saga, and places the next one.

mod client;
mod measure;
mod products;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::database::Databases;
use crate::host_process::{HostProcess, StartOptions};
use crate::machine;
use crate::output;
use crate::report::Report;
use crate::target::{Target, TargetOptions};
use crate::verify;

use client::{Outcome, Phase, Window};
use measure::{Moment, Watched};
use products::Products;
use summary::{Level, Machine, Summary};

/// Between the end of the load and the last look at Postgres: its counters come up to a second late.
const SETTLE: Duration = Duration::from_millis(2500);
const QUIET_CORES_MAX: f64 = 0.3;
const QUIET_WITHIN: Duration = Duration::from_secs(90);

/// Options of `saga-bench load`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    start: StartOptions,
    /// Measure a host that is up, at --http or as dev.json says, instead of starting one
    #[arg(long)]
    attach: bool,
    /// Start a host and stop it afterwards; what happens without --attach
    #[arg(long = "start", conflicts_with = "attach")]
    _start: bool,
    /// Numbers of clients, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<usize>,
    /// Seconds before each measurement: Kafka's JVM compiles for that long
    #[arg(long, default_value_t = 15)]
    warmup_s: u64,
    /// Seconds measured
    #[arg(long, default_value_t = 15)]
    measure_s: u64,
    /// Products with plenty of stock
    #[arg(long, default_value_t = 1000)]
    products: usize,
    /// Products without stock
    #[arg(long, default_value_t = 100)]
    empty_products: usize,
    /// Orders in a hundred that ask for a product without stock
    #[arg(long, default_value_t = 10)]
    empty_percent: usize,
    /// Do not wait until the machine is quiet
    #[arg(long)]
    busy: bool,
    /// Check all invariants afterwards
    #[arg(long)]
    verify: bool,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs `saga-bench load`.
///
/// # Errors
/// The system cannot be started or asked, no saga ended, or (with `--verify`) an invariant is broken.
pub async fn run(options: Options) -> Result<()> {
    let (host, target) = if options.attach {
        (None, options.target.target()?)
    } else {
        options.start.prepare()?;
        let (host, target) = HostProcess::dev(&options.start).await?;
        (Some(host), target)
    };
    let outcome = measure_all(&options, &target).await;
    let stopped = match host {
        Some(host) => host.stop().await,
        None => Ok(()),
    };
    outcome.and(stopped)
}

async fn measure_all(options: &Options, target: &Target) -> Result<()> {
    let databases = Databases::new(&target.postgres)?;
    let products = Arc::new(Products::create(target.http()?, options.products, options.empty_products).await?);
    let mut summary = Summary { machine: look_at_machine(options).await?, levels: Vec::new() };
    for clients in &options.clients {
        let level = measure_level(options, target, &databases, &products, *clients).await?;
        output::line(&format!("{clients} clients: {:.0} sagas/s", level.sagas_per_s));
        summary.levels.push(level);
    }
    databases.close().await;
    output::line(&summary.table());
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&summary)?).with_context(|| file.display().to_string())?;
    }
    for level in &summary.levels {
        ensure!(level.sagas > 0, "{} clients: no saga ended", level.clients);
    }
    if options.verify {
        let mut report = Report::default();
        verify::check(target, Duration::from_secs(60), false, &mut report).await?;
        report.finish()?;
    }
    Ok(())
}

async fn look_at_machine(options: &Options) -> Result<Machine> {
    let cores = std::thread::available_parallelism()?.get();
    let busy_cores = if options.busy {
        machine::busy_cores().await
    } else {
        let seen = machine::wait_until_quiet(QUIET_CORES_MAX, QUIET_WITHIN).await;
        seen.unwrap_or_else(|busy| busy)
    };
    let folder = options.start.folder.clone();
    let flush = tokio::task::spawn_blocking(move || machine::flush_latency(&folder)).await??;
    let machine = Machine { cores, quiet: busy_cores < QUIET_CORES_MAX, busy_cores, flush };
    output::line(&machine.line());
    Ok(machine)
}

async fn measure_level(
    options: &Options,
    target: &Target,
    databases: &Databases,
    products: &Arc<Products>,
    clients: usize,
) -> Result<Level> {
    let watched = Watched::of(&target.pids);
    let counters = databases.counters().await?;
    let window = Arc::new(Window::default());
    window.enter(Phase::WarmUp);
    let mut running = JoinSet::new();
    for number in 0..clients {
        let orders = products.orders(number as u64, options.empty_percent);
        running.spawn(client::run(target.http()?.to_owned(), orders, Arc::clone(&window)));
    }
    tokio::time::sleep(Duration::from_secs(options.warmup_s)).await;
    let before = Moment::now(&watched);
    window.enter(Phase::Measure);
    tokio::time::sleep(Duration::from_secs(options.measure_s)).await;
    window.enter(Phase::Stop);
    let after = Moment::now(&watched);
    let mut outcome = Outcome::default();
    while let Some(one) = running.join_next().await {
        outcome.add(one.context("a client ended early")?);
    }
    tokio::time::sleep(SETTLE).await;
    let counters = databases.counters().await?.since(counters);
    Ok(Level::new(clients, outcome, &before, &after, watched.memory(), counters))
}
