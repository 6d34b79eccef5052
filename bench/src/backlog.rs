//! How much memory a host needs to work off a backlog of orders, for a small one and for one ten times as
//! large.
//!
//! ```text
//!  host, all plugins ──▶ host without inventory-command: orders wait ──▶ host, all plugins, fresh: its peak
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use saga_testkit::caller::Request;
use saga_testkit::connection::Connection;
use saga_testkit::host_process::{HostProcess, StartOptions, on_fresh_stack};
use saga_testkit::output;
use saga_testkit::process::peak_bytes;
use saga_testkit::report::{Report, at_most};
use saga_testkit::target::Target;
use saga_testkit::verify::{self, Scope};

const PRODUCTS: usize = 100;
const PLENTY: i64 = 1_000_000_000;
const CLIENTS: usize = 64;
/// The plugin that does not run while orders wait for it.
const ABSENT: &str = "inventory-command";
/// The most memory for the larger backlog, as a multiple of that for the smaller one.
const MEMORY_RATIO_MAX: f64 = 1.25;
const MIB: f64 = 1024.0 * 1024.0;

/// Options of `saga-bench backlog`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// Orders that pile up; a tenth of them the first time
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10..))]
    orders: u32,
    /// Seconds until the backlog must be worked off
    #[arg(long, default_value_t = 180)]
    quiet_s: u64,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The memory and the time for one backlog.
#[derive(Debug, Clone, Serialize)]
struct BacklogCost {
    orders: u32,
    /// Peak of the resident memory of a host without a backlog.
    idle_peak: u64,
    /// The same for the host that works off the backlog.
    peak: u64,
    /// Seconds until the system is quiet.
    seconds: f64,
}

/// Runs `saga-bench backlog`. Every invariant is checked after each backlog; figures of a run that broke one
/// are not shown.
///
/// # Errors
/// Something cannot be started, an order is refused, an invariant is broken, or memory grows with the
/// backlog.
pub async fn run(options: Options) -> Result<()> {
    let mut report = Report::silent();
    let mut costs = Vec::new();
    for orders in [options.orders / 10, options.orders] {
        output::line(&format!("{orders} orders wait for {ABSENT}"));
        let work = async |target: &Target| measure(&options, target, orders, &mut report).await;
        costs.push(on_fresh_stack(&options.start, work).await?);
        report.finish().context("no figures: the run broke what the host promises")?;
    }
    report.release(&table(&costs), &costs, options.json.as_deref())?;
    let mut flat = Report::default();
    flat.area("memory");
    flat.note(
        format!("the larger backlog needs at most {MEMORY_RATIO_MAX} times that of the smaller one"),
        at_most(costs[1].peak as f64 / costs[0].peak as f64, MEMORY_RATIO_MAX),
    );
    flat.finish()
}

async fn measure(
    options: &Options,
    target: &Target,
    orders: u32,
    report: &mut Report,
) -> Result<BacklogCost> {
    let idle = HostProcess::run(&options.start, target).await?;
    let products = create_products(target.http()?).await?;
    let idle_peak = peak(&idle)?;
    idle.stop().await?;
    let plugins = options.start.folder.join("plugins");
    copy_but_one(&options.start.plugins, &plugins)?;
    let without = HostProcess::run(&StartOptions { plugins, ..options.start.clone() }, target).await?;
    place(target.http()?, orders, &products).await?;
    without.stop().await?;
    let began = Instant::now();
    let host = HostProcess::run(&options.start, target).await?;
    let scope = Scope::all(Duration::from_secs(options.quiet_s));
    let quiet = verify::check(target, &scope, report);
    let (_, rows) = quiet.await?;
    let cost = BacklogCost { orders, idle_peak, peak: peak(&host)?, seconds: began.elapsed().as_secs_f64() };
    let there = rows.orders.len();
    report.note(
        "all orders are there",
        (there == orders as usize).then_some(()).context(format!("there are {there}")),
    );
    host.stop().await?;
    Ok(cost)
}

fn peak(host: &HostProcess) -> Result<u64> {
    host.id().and_then(peak_bytes).context("the host's memory cannot be read")
}

async fn create_products(address: &str) -> Result<Vec<i64>> {
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        let reply =
            Request::post("/stocks", format!(r#"{{"qty":{PLENTY}}}"#)).send(address).await?.expect(201)?;
        products.push(reply.member("productId")?.as_i64().context("a productId that is no number")?);
    }
    Ok(products)
}

/// Copies all plugins but [`ABSENT`].
fn copy_but_one(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let file = entry?.path();
        if let Some(name) = file.file_name().filter(|_| file.file_stem().is_none_or(|stem| stem != ABSENT)) {
            std::fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

/// Places orders without waiting for their end.
async fn place(address: &str, orders: u32, products: &[i64]) -> Result<()> {
    let mut running = JoinSet::new();
    for client in 0..CLIENTS {
        let requests: Vec<Vec<u8>> = (client..orders as usize)
            .step_by(CLIENTS)
            .map(|number| products[number % products.len()])
            .map(|product| Request::post("/orders", format!(r#"{{"productId":{product},"orderQty":1}}"#)))
            .map(|request| request.encode(address))
            .collect();
        let address = address.to_owned();
        running.spawn(async move {
            let mut connection = Connection::open(&address).await?;
            for request in requests {
                let answer = connection.exchange(&request, false).await?;
                ensure!(answer.status == 201, "an order was answered {}", answer.status);
            }
            Ok(())
        });
    }
    while let Some(client) = running.join_next().await {
        client??;
    }
    Ok(())
}

fn table(costs: &[BacklogCost]) -> String {
    let row = |name: &str, cell: &dyn Fn(&BacklogCost) -> String| {
        std::iter::once(name.to_owned()).chain(costs.iter().map(cell)).collect::<Vec<_>>()
    };
    let mib = |bytes: u64| format!("{:.0}", bytes as f64 / MIB);
    output::table(&[
        row("orders that waited", &|cost| cost.orders.to_string()),
        row("peak MiB of the host that worked them off", &|cost| mib(cost.peak)),
        row("  of a host without a backlog", &|cost| mib(cost.idle_peak)),
        row("seconds until all was quiet and checked", &|cost| format!("{:.0}", cost.seconds)),
    ])
}

#[cfg(test)]
mod tests {
    use super::copy_but_one;

    #[test]
    fn the_absent_plugin_has_neither_component_nor_policy() {
        let parent = tempfile::tempdir().unwrap();
        let (from, to) = (parent.path().join("from"), parent.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        for name in ["inventory-command.wasm", "inventory-command.toml", "inventory-query.wasm"] {
            std::fs::write(from.join(name), "").unwrap();
        }
        copy_but_one(&from, &to).unwrap();
        let names: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["inventory-query.wasm"]);
    }
}
