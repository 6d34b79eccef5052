//! One run, from the first host to the checks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::calls::{Calls, Plan};
use super::calm::{self, Calm};
use super::check::{self, Archive};
use super::description;
use super::faults;
use super::recovery::effect;
use super::schedule::{self, Planned};
use super::setup;
use super::summary::{Injected, Summary};
use super::system::System;
use super::{Fault, Options};
use crate::sample::Sample;
use saga_testkit::output;
use saga_testkit::report::Report;

/// The area of the check that fails when a run ends early.
pub(super) const EARLY: &str = "faults and checks";
/// Enough for the data of ten minutes.
const DISK_MB: u32 = 1500;

/// What happened while the clients sent requests.
#[derive(Default)]
struct Happened {
    calm: Option<Calm>,
    faults: Vec<Fell>,
    archive: Archive,
    /// Faults of the schedule that were too late, or came after one that did not heal.
    skipped: usize,
}

/// A fault as it was injected.
struct Fell {
    planned: Planned,
    done: String,
    at: Duration,
    healed: Duration,
}

/// Runs the faults of `options` that this system and machine can have. Returns the summary; broken promises are
/// failed checks in `report`.
pub(super) async fn run(
    options: &Options,
    description: description::System,
    report: &mut Report,
) -> Result<Summary> {
    let seed = Sample::seed(options.seed);
    let faults = possible(&options.faults(), &description, report);
    report.say(&format!(
        "seed {seed}: {} hosts, {} requests over {} s, {} clients",
        options.hosts, options.requests, options.seconds, options.clients
    ));
    options.start.prepare()?;
    let disk_mb = faults.contains(&Fault::DiskFull).then_some(DISK_MB);
    let hosts = usize::from(options.hosts);
    let mut system = System::start_all(&options.start, description, hosts, disk_mb).await?;
    let ran = on_system(options, seed, &faults, &mut system, report).await;
    report.area("the run");
    report.run("every host ends at SIGTERM with status 0", system.stop()).await;
    ran
}

async fn on_system(
    options: &Options,
    seed: u64,
    faults: &[Fault],
    system: &mut System,
    report: &mut Report,
) -> Result<Summary> {
    if faults.iter().copied().any(Fault::swaps) {
        calm::compile(system).await?;
    }
    let count = usize::try_from(options.requests)?;
    let (made, source) = setup::run(&system.description, system.target(0).http()?, seed, count).await?;
    let over = Duration::from_secs(options.seconds);
    let load = system.description.load.clone();
    let plan = Plan { load, source, addresses: system.addresses()?, count, over, seed };
    // The deadline counts from the last fault, which may start late.
    let calls = Arc::new(Calls::new(plan, Instant::now() + over * 10));
    let mut happened = Happened::default();
    let mut clients = calls.start(options.clients);
    let driven = drive(options, seed, faults, system, &calls, report, &mut happened).await;
    match &driven {
        Ok(()) => calls.accept_within(Duration::from_secs(options.accept_s)),
        Err(_) => calls.give_up(),
    }
    while clients.join_next().await.is_some() {}
    let Happened { calm, faults, archive, skipped } = happened;
    let counts = match driven {
        Ok(()) => {
            let quiet_within = Duration::from_secs(options.quiet_s);
            check::all(system, &calls, &made, archive, quiet_within, report).await.map(Some)
        }
        Err(error) => Err(error),
    };
    let counts = counts.unwrap_or_else(|error| {
        report.area(EARLY);
        report.note("every fault was injected and healed, and everything was checked", Err(error));
        None
    });
    Ok(Summary {
        seed,
        hosts: options.hosts,
        seconds: options.seconds,
        requests: options.requests,
        command: options.command(seed),
        calm,
        faults: injected(faults, &calls),
        skipped,
        failed_attempts: calls.failed_attempts(),
        counts,
    })
}

/// The faults that can be had. Each other one is named with its reason.
fn possible(faults: &[Fault], description: &description::System, report: &Report) -> Vec<Fault> {
    let mut possible = Vec::new();
    for fault in faults {
        match fault.possible(description) {
            Ok(()) => possible.push(*fault),
            Err(error) => report.say(&format!("left out: {fault}: {error:#}")),
        }
    }
    possible
}

/// Swaps without faults, then the schedule of faults.
async fn drive(
    options: &Options,
    seed: u64,
    faults: &[Fault],
    system: &mut System,
    calls: &Calls,
    report: &mut Report,
    happened: &mut Happened,
) -> Result<()> {
    if faults.iter().copied().any(Fault::swaps) {
        let limit = Duration::from_millis(options.swap_ms_max);
        happened.calm = Some(calm::swap(system, calls, limit, report).await?);
    }
    report.say("\nfaults");
    let schedule = schedule::draw(seed, faults, system.hosts(), options.seconds);
    happened.skipped = schedule.len();
    for planned in schedule {
        tokio::time::sleep_until((calls.started() + planned.at).into()).await;
        if calls.over() {
            report.say(&format!("{} faults skipped: all requests were accepted before", happened.skipped));
            break;
        }
        let at = calls.started().elapsed();
        let done = faults::inject(system, calls, &mut happened.archive, report, &planned).await;
        let done = done.with_context(|| format!("at {:.1} s", at.as_secs_f64()))?;
        let healed = calls.started().elapsed();
        report.say(&format!("{:6.1} s  {:<16}  {done}", at.as_secs_f64(), planned.fault));
        happened.faults.push(Fell { planned, done, at, healed });
        happened.skipped -= 1;
    }
    Ok(())
}

/// The faults with their effects on the requests.
fn injected(faults: Vec<Fell>, calls: &Calls) -> Vec<Injected> {
    let timings = calls.timings();
    let next: Vec<Duration> = faults.iter().skip(1).map(|fault| fault.at).chain([Duration::MAX]).collect();
    let one = |(fault, until): (Fell, Duration)| {
        let Fell { planned, done, at, healed } = fault;
        let healed_s = (healed - at).as_secs_f64();
        let effect = effect(&timings, at, healed, until);
        Injected { at_s: at.as_secs_f64(), fault: planned.fault, done, healed_s, effect }
    };
    faults.into_iter().zip(next).map(one).collect()
}

/// Prints the report of a run, and fails when a check has failed.
pub(super) fn release(options: &Options, report: &Report, summary: &Summary) -> Result<()> {
    let finished = report.finish();
    output::line(&format!("\n{}", summary.text()));
    if let Some(path) = &options.json {
        summary.write(report, path)?;
    }
    finished.with_context(|| format!("seed {}", summary.seed))
}
