//! Swaps two plugins again and again, each between two real versions, while orders flow and the routes of the
//! other plugins are read. Calm and storm take turns in one run, so that they can be compared.
//!
//! ```text
//!  64 clients ── orders ─▶ host ◀── PUT /v1/plugins/… ── versions (A, B, A, B, …)
//!  readers ──── GET ────▶  │
//!                          └─ gaps (how long no saga ended), memory ─▶ summary, when `verify` agrees
//! ```

mod gaps;
mod handled;
mod readers;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use uuid::Uuid;

use crate::load::{Session, Shape, Window};
use crate::machine::Machine;
use crate::swapped::{PLUGINS, Swapped};
use saga_testkit::host_process::{StartOptions, on_fresh_data};
use saga_testkit::output;
use saga_testkit::process::resident_bytes;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

use gaps::Gaps;
use handled::Handled;
use readers::Readers;
use summary::{Part, Summary};

/// Between two swaps: the sagas of one version end meanwhile, so that it retires.
const PAUSE: Duration = Duration::from_millis(100);
/// Turns of calm and storm.
const TURNS: usize = 10;
/// Swaps after which the host's memory is looked at for the first time.
const SETTLED_AFTER: usize = 20;

/// Options of `saga-bench swap-storm`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    start: StartOptions,
    /// Seconds before the first turn: the host's memory grows for that long by the load alone, and Kafka's
    /// JVM compiles
    #[arg(long, default_value_t = 90)]
    warmup_s: u64,
    /// Do not wait until the machine is quiet
    #[arg(long)]
    busy: bool,
    /// Swaps in all
    #[arg(long, default_value_t = 1000)]
    swaps: usize,
    /// Clients that place orders
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs `saga-bench swap-storm`.
///
/// # Errors
/// Something cannot be started or swapped, or a promise is broken; where that is an invariant, no figures are
/// told.
pub async fn run(options: Options) -> Result<()> {
    on_fresh_data(&options.start, async |target| storm(&options, target).await).await
}

async fn storm(options: &Options, target: &Target) -> Result<()> {
    let mut swapped = Swapped::all(&options.start.plugins)?;
    let shape = Shape {
        products: 1000,
        empty_products: 100,
        empty_percent: 10,
        warmup_s: options.warmup_s,
        measure_s: 0,
        busy: options.busy,
    };
    let mut session = Session::begin(target, &shape).await?;
    let machine = Machine::look(options.busy, Some(&options.start.folder)).await?;
    output::line(&machine.to_string());
    output::line(&format!("{} clients, {} swaps in {TURNS} turns", options.clients, options.swaps));
    let work = async |window: &Window| turns(options, target, &mut swapped, window).await;
    let (turned, seen) = session.beside(options.clients, work).await?;
    let mut report = Report::default();
    session.check(Uuid::nil(), &mut report).await?;
    let summary = Summary::of(machine, options.swaps, turned, seen);
    report.release(&summary.table(), &summary, options.json.as_deref())?;
    let mut promises = Report::default();
    summary.judge(&mut promises);
    promises.finish()
}

/// What was seen in all turns.
struct Turned {
    calm: Part,
    storm: Part,
    /// Resident bytes of the host after the first swaps, and after the last.
    memory: [Option<u64>; 2],
    handled: [Handled; 2],
}

async fn turns(
    options: &Options,
    target: &Target,
    swapped: &mut [Swapped; 2],
    window: &Window,
) -> Result<Turned> {
    tokio::time::sleep(Duration::from_secs(options.warmup_s)).await;
    // Both versions are compiled before anything is timed.
    for one in swapped.iter_mut() {
        one.swap(target).await?;
        one.swap(target).await?;
    }
    let mut turned = Turned {
        calm: Part::default(),
        storm: Part::default(),
        memory: [None; 2],
        handled: PLUGINS.map(Handled::of),
    };
    let mut made = 0;
    for turn in 1..=TURNS {
        let swaps = options.swaps * turn / TURNS - made;
        let readers = Readers::start(target)?;
        let mut gaps = Gaps::begin(window);
        for _ in 0..swaps {
            gaps.watch(PAUSE).await;
        }
        turned.calm.add(gaps.all(), readers.stop().await?);
        let readers = Readers::start(target)?;
        let mut gaps = Gaps::begin(window);
        for _ in 0..swaps {
            let next = &mut swapped[made % PLUGINS.len()];
            gaps.watch_after(next.swap(target), PAUSE).await?;
            made += 1;
            if made == SETTLED_AFTER {
                turned.memory[0] = target.pids.host.and_then(resident_bytes);
            }
        }
        turned.storm.add(gaps.all(), readers.stop().await?);
        for one in &mut turned.handled {
            one.count(target).await?;
        }
        turned.memory[1] = target.pids.host.and_then(resident_bytes);
        let mib = turned.memory[1].unwrap_or_default() >> 20;
        output::line(&format!("turn {turn}: {made} swaps, {} sagas ended, host {mib} MiB", window.ended()));
    }
    Ok(turned)
}
