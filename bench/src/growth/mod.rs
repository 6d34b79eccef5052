//! How throughput changes as the databases fill. Measures a level on empty databases, one after each filling
//! step, and at the end one more on another empty system. The difference between the first and the last level
//! comes from the machine, not from the data.

mod fill;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use crate::load::{Demand, Session, Shape};
use crate::machine::Machine;
use saga_testkit::database::Databases;
use saga_testkit::host_process::{StartOptions, on_fresh_data};
use saga_testkit::output;
use saga_testkit::quiet;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

use fill::Fill;
use summary::{Point, Summary};

const ENDED: &str = "SELECT count(*) FROM saga.saga_done";
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// Options of `saga-bench growth`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    #[command(flatten)]
    shape: Shape,
    /// Finished sagas that the databases hold in the last step
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    sagas: i64,
    /// Steps from empty to full, all equally large
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(i64).range(1..=1000))]
    steps: i64,
    /// Clients of the closed loop
    #[arg(long, default_value_t = 256)]
    clients: usize,
    /// Write the figures to this file
    #[arg(long, default_value = "target/bench-growth.json")]
    json: PathBuf,
    /// Draw the figures into this file
    #[arg(long, default_value = "target/bench-growth.svg")]
    svg: PathBuf,
}

/// Runs `saga-bench growth`.
///
/// # Errors
/// A host cannot be started or is unreachable, the databases cannot be filled, or an invariant is broken;
/// then no figure is shown.
pub async fn run(options: Options) -> Result<()> {
    let mut report = Report::silent();
    let start = &options.start;
    let points =
        on_fresh_data(start, async |target| grow(&options, target, options.steps, &mut report).await).await?;
    let again = on_fresh_data(start, async |target| grow(&options, target, 0, &mut report).await).await?;
    let again = again.into_iter().next().context("the last level was not measured")?;
    let summary = Summary { points, again, checks: report.made() };
    report.release(&summary.table(), &summary, Some(&options.json))?;
    std::fs::write(&options.svg, summary.svg()).with_context(|| options.svg.display().to_string())?;
    output::line(&format!("{}\n{}", options.json.display(), options.svg.display()));
    Ok(())
}

/// Measures the empty databases, and again after each of the steps.
async fn grow(options: &Options, target: &Target, steps: i64, report: &mut Report) -> Result<Vec<Point>> {
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let mut session = Session::begin(target, &options.shape).await?;
    let mut fill = Fill::before(now_ms, options.sagas);
    let mut points = Vec::new();
    for step in 0..=steps {
        if step > 0 {
            still(target, session.databases()).await?;
            let there = session.databases().count("cmd-order", ENDED).await?;
            let missing = (options.sagas * step / steps - there).max(0);
            output::line(&format!(
                "step {step} of {steps}: {there} sagas are there, {missing} are filled in"
            ));
            fill.add(session.databases(), missing).await?;
        }
        points.push(measure(options, &mut session).await?);
    }
    let orders_from = if steps > 0 { fill::first_real(now_ms) } else { Uuid::nil() };
    session.check(orders_from, report).await?;
    report.finish().context("no figures: the run broke what the host promises")?;
    Ok(points)
}

async fn measure(options: &Options, session: &mut Session<'_>) -> Result<Point> {
    let machine = Machine::examine(options.shape.busy, Some(&options.start.folder)).await?;
    let sagas_before = session.databases().count("cmd-order", ENDED).await?;
    let database_bytes = session.databases().bytes().await?;
    let level = session.level(Demand::Clients(options.clients)).await?;
    let sagas_after = session.databases().count("cmd-order", ENDED).await?;
    Ok(Point { sagas_before, sagas_after, database_bytes, machine, level })
}

/// Waits until the system is quiet, so that only sagas with all their rows are copied.
async fn still(target: &Target, databases: &Databases) -> Result<()> {
    let motion = quiet::wait(target, databases, QUIET_WITHIN).await?;
    ensure!(motion.is_empty(), "not quiet after {} s: {}", QUIET_WITHIN.as_secs(), motion.join("; "));
    Ok(())
}
