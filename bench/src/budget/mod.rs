//! Where the CPU time of a saga goes under load, and where the time of a lone saga goes.
//!
//! ```text
//!  profile (perf) ─▶ rules (which stop is that stack) ─▶ tally ─┐
//!  load::Session: CPU from /proc, in the same seconds ──────────┼─▶ summary: sum of the stops against measured
//!  metrics (the host's own times) ─▶ lone ──────────────────────┘
//! ```

mod lone;
mod metrics;
mod profile;
mod rules;
mod summary;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::load::{Demand, Level, Session, Shape};
use crate::machine::Machine;
use saga_testkit::host_process::{StartOptions, on_hosts};
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

use lone::Lone;
use profile::Recording;
use summary::{Busy, Summary};
use tally::{Owners, Tally};

/// Options of `saga-bench budget`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    #[command(flatten)]
    shape: Shape,
    /// Closed loop: number of clients
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Hosts on the same Kafka and Postgres, the clients spread over them; one or two
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    hosts: u32,
    /// Samples a second that the profile takes of each core
    #[arg(long, default_value_t = 499, value_parser = clap::value_parser!(u32).range(1..))]
    samples_per_s: u32,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs `saga-bench budget`.
///
/// # Errors
/// `perf` is missing or may not look at the machine; otherwise as `saga-bench load`.
pub async fn run(options: Options) -> Result<()> {
    profile::usable().await?;
    on_hosts(&options.start, options.hosts, async |target| both(&options, target).await).await
}

async fn both(options: &Options, target: &Target) -> Result<()> {
    let mut session = Session::begin(target, &options.shape).await?;
    let machine = Machine::look(options.shape.busy, Some(&options.start.folder)).await?;
    output::line(&machine.to_string());
    let busy = busy(options, target, &mut session).await?;
    let lone = lone(options, target, &mut session).await?;
    let mut report = Report::default();
    session.check(Uuid::nil(), &mut report).await?;
    let summary = Summary { machine, hosts: options.hosts, busy, lone, checks: report.made() };
    report.release(&summary.table(), &summary, options.json.as_deref())?;
    let mut whole = Report::default();
    summary.judge(&mut whole);
    whole.finish()
}

async fn busy(options: &Options, target: &Target, session: &mut Session<'_>) -> Result<Busy> {
    let file = options.start.folder.join("perf.data");
    let recording = async {
        tokio::time::sleep(Duration::from_secs(options.shape.warmup_s)).await;
        let taken = Recording::take(&file, options.samples_per_s, options.shape.measure_s).await?;
        anyhow::Ok((taken, Owners::now(target)))
    };
    let Shape { warmup_s, measure_s, .. } = options.shape;
    let times = metrics::over(target, Duration::from_secs(warmup_s), Duration::from_secs(measure_s));
    let (level, recorded, times) =
        tokio::join!(session.level(Demand::Clients(options.clients)), recording, times);
    let (level, (recording, owners)): (Level, _) = (level?, recorded?);
    output::line("reading the profile");
    let mut tally = Tally::new(owners);
    recording.read(|sample| tally.add(sample)).await?;
    Ok(Busy::of(level, &tally, f64::from(options.samples_per_s), &times?))
}

async fn lone(options: &Options, target: &Target, session: &mut Session<'_>) -> Result<Lone> {
    let Shape { warmup_s, measure_s, .. } = options.shape;
    let times = metrics::over(target, Duration::from_secs(warmup_s), Duration::from_secs(measure_s));
    let (level, times) = tokio::join!(session.level(Demand::Clients(1)), times);
    let trip_ms = lone::trip_ms(target.http()?).await?;
    Ok(Lone::of(&level?, &times?, trip_ms))
}
