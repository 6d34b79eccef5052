//! What a host without work needs: the time until it is ready, with and without compiled plugins in its
//! cache, and then CPU and memory at rest.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use saga_testkit::host_process::{HostProcess, StartOptions, on_fresh_stack};
use saga_testkit::output;
use saga_testkit::process::{Processes, resident_bytes, ticks_per_second};
use saga_testkit::report::Report;
use saga_testkit::target::Target;

/// After it is ready, a host joins its consumer groups and polls once for due work.
const SETTLE: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// Options of `saga-bench idle`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// Seconds at rest that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    measure_s: u64,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Idle {
    /// Seconds from its start until it is ready, when it must compile every plugin.
    compiling_ready_s: f64,
    /// The same with compiled plugins in its cache.
    ready_s: f64,
    compiled: Vec<Compiled>,
    /// CPU time divided by time, at rest.
    cores: f64,
    resident_bytes: u64,
}

/// The compilation of one plugin, among others at the same time.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Compiled {
    plugin: String,
    ms: u64,
}

/// Runs `saga-bench idle`.
///
/// # Errors
/// Something cannot be started, or the host's log cannot be understood.
pub async fn run(mut options: Options) -> Result<()> {
    let cache = options.start.folder.join("cache").display().to_string();
    options.start.environment.push(("SAGA_HOST_CACHE".to_owned(), cache));
    let mut report = Report::silent();
    let work = async |target: &Target| measure(&options, target, &mut report).await;
    let idle = on_fresh_stack(&options.start, work).await?;
    report.release(&table(&idle), &idle, options.json.as_deref())
}

async fn measure(options: &Options, target: &Target, report: &mut Report) -> Result<Idle> {
    let log = options.start.folder.join("run.log");
    let (host, compiling_ready_s) = start(options, target).await?;
    host.stop().await?;
    let compiled = compiled_in(&std::fs::read_to_string(&log)?);
    let (host, ready_s) = start(options, target).await?;
    let again = compiled_in(&std::fs::read_to_string(&log)?).len() - compiled.len();
    let as_expected = !compiled.is_empty() && again == 0;
    let found = || format!("{} at the first start, {again} at the second", compiled.len());
    report
        .note("plugins are compiled at the first start only", as_expected.then_some(()).with_context(found));
    tokio::time::sleep(SETTLE).await;
    let id = host.id().context("the host has ended")?;
    let (began, before) = (Instant::now(), Processes::now().own_ticks(id));
    tokio::time::sleep(Duration::from_secs(options.measure_s)).await;
    let ticks = Processes::now().own_ticks(id) - before;
    let cores = ticks as f64 / ticks_per_second() / began.elapsed().as_secs_f64();
    let resident_bytes = resident_bytes(id).context("the host's memory cannot be read")?;
    host.stop().await?;
    Ok(Idle { compiling_ready_s, ready_s, compiled, cores, resident_bytes })
}

async fn start(options: &Options, target: &Target) -> Result<(HostProcess, f64)> {
    let began = Instant::now();
    let host = HostProcess::run(&options.start, target).await?;
    Ok((host, began.elapsed().as_secs_f64()))
}

/// The compilations that the host's log reports.
fn compiled_in(log: &str) -> Vec<Compiled> {
    let lines = log.lines().filter_map(|line| line.split_once("plugin compiled")).map(|(_, rest)| rest);
    lines
        .filter_map(|line| {
            let ms = line.split_once(" ms=")?.1.trim().parse().ok()?;
            Some(Compiled { plugin: line.split_whitespace().next()?.to_owned(), ms })
        })
        .collect()
}

fn table(idle: &Idle) -> String {
    let row = |name: String, value: String, target: &str| vec![name, value, target.to_owned()];
    let mut rows = vec![
        row(String::new(), String::new(), "aimed at"),
        row("s until ready, plugins compiled before".to_owned(), format!("{:.2}", idle.ready_s), "1"),
        row(
            "s until ready, every plugin to compile".to_owned(),
            format!("{:.2}", idle.compiling_ready_s),
            "",
        ),
    ];
    for Compiled { plugin, ms } in &idle.compiled {
        rows.push(row(
            format!("  of it, s for {plugin}"),
            format!("{:.2}", *ms as f64 / 1_000.0),
            "0.5 alone",
        ));
    }
    rows.push(row("cores at rest".to_owned(), format!("{:.3}", idle.cores), "0.02"));
    rows.push(row("MiB at rest".to_owned(), format!("{:.0}", idle.resident_bytes as f64 / MIB), "114"));
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::{Compiled, compiled_in};

    #[test]
    fn the_host_says_how_long_it_compiled() {
        let log =
            "13:03:30.057 INFO  plugin compiled    order-query 9db642…  ms=243\n13:03:30.058 INFO  ready";
        assert_eq!(compiled_in(log), [Compiled { plugin: "order-query".into(), ms: 243 }]);
    }
}
