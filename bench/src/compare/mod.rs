//! Compares two builds of the host: A B A B …, each run on fresh data, so that what else the machine does
//! affects both. The number of pairs that agree tells a difference from chance, if there are enough pairs.

mod metric;
mod ratio;
mod summary;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::load::{Demand, Level, Session, Shape};
use crate::machine::Machine;
use saga_testkit::host_process::{StartOptions, on_hosts};
use saga_testkit::output;
use saga_testkit::report::Report;
use saga_testkit::target::Target;

use summary::{Pair, Run, Side, Summary};

/// Options of `saga-bench compare`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The saga-host of side A
    #[arg(long, value_name = "FILE")]
    a_binary: PathBuf,
    /// The saga-host of side B
    #[arg(long, value_name = "FILE")]
    b_binary: PathBuf,
    /// Folder of the plugins of side A
    #[arg(long, value_name = "DIR", default_value = "plugins/dist")]
    a_plugins: PathBuf,
    /// Folder of the plugins of side B
    #[arg(long, value_name = "DIR", default_value = "plugins/dist")]
    b_plugins: PathBuf,
    /// A further variable for the host of side A; as often as needed
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    a_env: Vec<(String, String)>,
    /// A further variable for the host of side B; as often as needed
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    b_env: Vec<(String, String)>,
    /// Hosts of side A on the same Kafka and Postgres, the clients spread over them; one or two
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    a_hosts: u32,
    /// The same of side B
    #[arg(long, default_value_t = 1, conflicts_with = "rate")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=2))]
    b_hosts: u32,
    /// Pairs of runs, each of about two minutes; fewer than five tell little
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Closed loop: number of clients
    #[arg(long, default_value_t = 256, conflicts_with = "rate")]
    clients: usize,
    /// Open loop instead: orders per second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Open loop: orders in flight at once
    #[arg(long, default_value_t = 1000)]
    in_flight_max: usize,
    #[command(flatten)]
    shape: Shape,
    /// Folder for data and logs; what an earlier run left there is removed
    #[arg(long, default_value = "target/saga-bench")]
    folder: PathBuf,
    /// Seconds until a host must be ready
    #[arg(long, default_value_t = 120)]
    ready_s: u64,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Options {
    fn demand(&self) -> Demand {
        match self.rate {
            Some(per_s) => Demand::Rate { per_s, in_flight_max: self.in_flight_max.max(1) },
            None => Demand::Clients(self.clients),
        }
    }

    fn start(&self, binary: &Path, plugins: &Path, environment: &[(String, String)]) -> StartOptions {
        StartOptions {
            host_binary: Some(binary.to_owned()),
            plugins: plugins.to_owned(),
            folder: self.folder.clone(),
            ready_s: self.ready_s,
            environment: environment.to_vec(),
        }
    }
}

/// Runs `saga-bench compare`.
///
/// # Errors
/// A host cannot be started, is unreachable, or broke an invariant; then no figure is shown.
pub async fn run(options: Options) -> Result<()> {
    let a = options.start(&options.a_binary, &options.a_plugins, &options.a_env);
    let b = options.start(&options.b_binary, &options.b_plugins, &options.b_env);
    let mut report = Report::silent();
    let mut pairs = Vec::new();
    for number in 1..=options.pairs {
        output::line(&format!("pair {number} of {}: A", options.pairs));
        let a = measure(&options, &a, options.a_hosts, &mut report)
            .await
            .with_context(|| format!("pair {number}, A"))?;
        output::line(&format!("pair {number} of {}: B", options.pairs));
        let b = measure(&options, &b, options.b_hosts, &mut report)
            .await
            .with_context(|| format!("pair {number}, B"))?;
        let pair = Pair { a, b };
        output::line(&pair.table(pairs.len() + 1));
        pairs.push(pair);
    }
    let summary = Summary::new(
        side(&a, options.a_hosts),
        side(&b, options.b_hosts),
        options.demand(),
        pairs,
        report.made(),
    );
    report.release(&summary.table(), &summary, options.json.as_deref())
}

async fn measure(options: &Options, start: &StartOptions, hosts: u32, report: &mut Report) -> Result<Run> {
    on_hosts(start, hosts, async |target| {
        let machine = Machine::examine(options.shape.busy, Some(&start.folder)).await?;
        output::line(&machine.to_string());
        let level = level(options, target, report).await?;
        Ok(Run { machine, level })
    })
    .await
}

async fn level(options: &Options, target: &Target, report: &mut Report) -> Result<Level> {
    let mut session = Session::begin(target, &options.shape).await?;
    let level = session.level(options.demand()).await?;
    session.check(Uuid::nil(), report).await?;
    report.finish().context("no figures: the run broke what the host promises")?;
    Ok(level)
}

fn side(start: &StartOptions, hosts: u32) -> Side {
    let binary = start.host_binary.as_deref().unwrap_or(Path::new("saga-host"));
    Side {
        binary: binary.display().to_string(),
        plugins: start.plugins.display().to_string(),
        environment: start.environment.clone(),
        hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(variable("A").is_err());
    }
}
