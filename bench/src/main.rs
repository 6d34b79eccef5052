//! `saga-bench`: one sub-command per module of the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use saga_bench::{backlog, chaos, compare, growth, idle, load};
use saga_testkit::output;

/// Load and chaos runs against a saga-host, with the invariants checked from outside
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure how many sagas a host ends, and what each costs
    ///
    /// All invariants of the contract are checked afterwards; figures of a run that broke one are not shown.
    #[command(
        after_help = "Examples: saga-bench load --clients 1,64 --measure-s 10 --json load.json\n          \
                            saga-bench load --rates 500,1000,2000"
    )]
    Load(load::Options),
    /// Measure two builds of the host against each other, in pairs of runs
    ///
    /// A B A B …, each run on fresh data. Shown is the median of the pairs' ratios B/A with the lowest and
    /// the highest, and whether all pairs agree on which side is higher: sides that are alike do so by chance
    /// in 1 of 16 figures after 5 pairs, in every second after 2. Compare a build with itself to see how much
    /// the machine varies. Invariants are checked after each run; one that is broken ends it all.
    #[command(after_help = "Example: saga-bench compare --a-binary before/saga-host \
                            --b-binary target/release/saga-host --pairs 5 --warmup-s 10 --measure-s 10 \
                            --b-env SAGA_HOST_WORKERS=1")]
    Compare(compare::Options),
    /// Measure how throughput changes as the databases fill with finished sagas
    ///
    /// The databases are filled by SQL, with copies of the rows that real sagas have left, under other ids
    /// and times, and then vacuumed and analysed. What this does not show: Kafka's log holds the real sagas
    /// only; all copies lie in the partition of finished sagas of today, the one that the load writes to (a
    /// host that runs for days has one for each day, and drops the oldest whole); tables are as dense as
    /// after a vacuum. At the end an empty system is measured once more, which shows how much the machine
    /// itself has changed meanwhile. Both empty systems have just been started: Kafka's JVM is colder there
    /// than in later steps, more so the shorter the warm-up; look at Kafka's CPU.
    #[command(after_help = "Example: saga-bench growth --sagas 1000000 --steps 5 --svg growth.svg")]
    Growth(growth::Options),
    /// Measure the memory of a host that works off a backlog, and of one ten times as large
    #[command(after_help = "Example: saga-bench backlog --orders 100000")]
    Backlog(backlog::Options),
    /// Measure a host with nothing to do: until it is ready, and then its CPU and memory
    #[command(after_help = "Example: saga-bench idle --measure-s 20")]
    Idle(idle::Options),
    /// Inject faults into a running system while requests flow, then check everything
    ///
    /// Hosts are killed, stopped, swapped and given a wrong clock, Postgres and Kafka killed, cut off, slowed
    /// and left without disk, topics changed, by a schedule that is drawn from the seed. The report says what
    /// was done when and how long it was felt, and counts what was lost, doubled, stuck or reordered.
    /// docs/chaos.md has the faults, and the format of the file that describes a system.
    #[command(after_help = "Examples: saga-bench chaos --seed 7 --seconds 60\n          \
                            saga-bench chaos --hosts 3 --faults kill,swap-kill --requests 50000 \
                            --json chaos.json")]
    Chaos(chaos::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Load(options) => load::run(options).await,
        Command::Growth(options) => growth::run(options).await,
        Command::Compare(options) => compare::run(options).await,
        Command::Backlog(options) => backlog::run(options).await,
        Command::Idle(options) => idle::run(options).await,
        Command::Chaos(options) => chaos::run(options).await,
    }
}
