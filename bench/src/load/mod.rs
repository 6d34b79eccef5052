//! Load, as a closed loop or an open one: how many sagas a host ends, and what each costs.
//!
//! ```text
//!  shape (which load) ─▶ session ─▶ closed │ open (schedule) ─▶ order_call ─▶ host
//!                           │                                       │
//!                           ├─ measure, written, units (the cost)   └─▶ outcome
//!                           └─▶ level ─▶ summary, shown only when `verify` and the clients' account agree
//! ```

mod closed;
mod level;
mod measure;
mod open;
mod order_call;
mod outcome;
mod products;
mod schedule;
mod session;
mod shape;
mod summary;
mod units;
mod written;

use std::path::PathBuf;

use anyhow::Result;
use uuid::Uuid;

use crate::machine::Machine;
use saga_testkit::host_process::{StartOptions, on_fresh_data};
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::{Target, TargetOptions};

use summary::Summary;

pub use level::{Level, OpenLoop};
pub use measure::{Cpu, Memory};
pub use session::Session;
pub use shape::{Demand, Shape};
pub use units::Batches;
pub use written::PerSaga;

const CLIENTS_DEFAULT: [usize; 3] = [1, 64, 256];

/// Options of `saga-bench load`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    start: StartOptions,
    #[command(flatten)]
    shape: Shape,
    /// Measure a host that is up, at --http or as dev.json says, instead of starting one
    #[arg(long)]
    attach: bool,
    /// Start a host and stop it afterwards; what happens without --attach
    #[arg(long = "start", conflicts_with = "attach")]
    _start: bool,
    /// Closed loop: numbers of clients, one measurement each [default: 1,64,256, without --rates]
    #[arg(long, value_delimiter = ',')]
    clients: Vec<usize>,
    /// Open loop: orders per second, one measurement each, after those of --clients; a latency counts from
    /// when its order was meant to start
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    rates: Vec<u32>,
    /// Open loop: orders in flight at once; when there are as many the rate is not sustained
    #[arg(long, default_value_t = 1000)]
    in_flight_max: usize,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Options {
    fn demands(&self) -> Vec<Demand> {
        let default = self.clients.is_empty() && self.rates.is_empty();
        let clients = if default { &CLIENTS_DEFAULT[..] } else { &self.clients };
        let in_flight_max = self.in_flight_max.max(1);
        let closed = clients.iter().map(|clients| Demand::Clients(*clients));
        closed.chain(self.rates.iter().map(|per_s| Demand::Rate { per_s: *per_s, in_flight_max })).collect()
    }
}

/// Runs `saga-bench load`. Every invariant is checked afterwards; figures of a run that broke one are not
/// shown.
///
/// # Errors
/// The system cannot be started or is unreachable, no saga ends, or an invariant is broken.
pub async fn run(options: Options) -> Result<()> {
    if options.attach {
        return measure_all(&options, &options.target.target()?).await;
    }
    on_fresh_data(&options.start, async |target| measure_all(&options, target).await).await
}

async fn measure_all(options: &Options, target: &Target) -> Result<()> {
    let mut session = Session::begin(target, &options.shape).await?;
    let data =
        if options.attach { options.target.data_folder() } else { Some(options.start.folder.as_path()) };
    let machine = Machine::examine(options.shape.busy, data).await?;
    output::line(&machine.to_string());
    let mut levels = Vec::new();
    for demand in options.demands() {
        levels.push(session.level(demand).await?);
    }
    let mut report = Report::default();
    session.check(Uuid::nil(), &mut report).await?;
    let summary = Summary { machine, levels, checks: report.made() };
    report.release(&summary.table(), &summary, options.json.as_deref())
}
