//! Checks the checks: runs hosts from which one protection was removed, with the faults that need it. Each run
//! must fail. A run of the same build with all protections must not.

use anyhow::{Context, Result, ensure};

use super::description::System;
use super::run::run as run_once;
use super::{Fault, Options};
use saga_testkit::output;
use saga_testkit::report::Report;

const VARIABLE: &str = "SAGA_HOST_SABOTAGE";
const SECONDS: u64 = 30;
const REQUESTS: u64 = 3_000;

/// A protection that `host/src/sabotage.rs` removes, and the faults that show it.
struct Switch {
    name: &'static str,
    removed: &'static str,
    faults: &'static [Fault],
}

const SWITCHES: [Switch; 9] = [
    Switch {
        name: "repeats-handled",
        removed: "a repeated record is recognised by the dedup mark",
        faults: &[Fault::FreezeKill, Fault::Kill],
    },
    Switch {
        name: "claims-not-compared",
        removed: "a host that has lost a partition cannot write for it",
        faults: &[Fault::Stop],
    },
    Switch {
        name: "position-behind",
        removed: "the position is stored with the unit's effects",
        faults: &[Fault::Kill],
    },
    Switch {
        name: "sent-before-commit",
        removed: "records are sent after COMMIT",
        faults: &[Fault::PostgresCrash],
    },
    Switch {
        name: "cleared-before-acknowledged",
        removed: "the outbox keeps records until Kafka has acknowledged them",
        faults: &[Fault::FreezeKill],
    },
    Switch {
        name: "order-not-kept",
        removed: "the relay sends units in the order of the outbox",
        faults: &[Fault::FreezeKill],
    },
    Switch {
        name: "key-not-held",
        removed: "a parked delivery holds back later ones of its key",
        faults: &[Fault::Redrive],
    },
    Switch {
        name: "commit-guessed",
        removed: "a COMMIT without an answer is looked up",
        faults: &[Fault::PostgresCut],
    },
    Switch {
        name: "answers-not-kept",
        removed: "a repeated Idempotency-Key gets the stored answer",
        faults: &[Fault::Kill],
    },
];

/// How a run ended.
struct Outcome {
    requests: usize,
    failed: Vec<String>,
}

/// Runs without a removed protection, then without each in turn.
pub(super) async fn run(options: &Options, system: &System) -> Result<()> {
    let mut all: Vec<Fault> = SWITCHES.iter().flat_map(|switch| switch.faults).copied().collect();
    all.sort_unstable_by_key(ToString::to_string);
    all.dedup();
    let mut wrong = Vec::new();
    output::line(&format!(
        "{:<28}  {:<9}  {:>8}  first failed check",
        "removed protection", "noticed", "requests"
    ));
    for (name, faults) in
        std::iter::once(("", &all[..])).chain(SWITCHES.iter().map(|one| (one.name, one.faults)))
    {
        let outcome = one(options, system, name, faults).await.with_context(|| format!("{name:?}"))?;
        let noticed = !outcome.failed.is_empty();
        let shown = if name.is_empty() { "none" } else { name };
        let first = outcome.failed.first().map_or("", String::as_str);
        let word = if noticed { "yes" } else { "no" };
        output::line(&format!("{shown:<28}  {word:<9}  {:>8}  {first}", outcome.requests));
        if noticed == name.is_empty() {
            wrong.push(shown);
        }
    }
    for switch in SWITCHES {
        output::line(&format!("{}: without \"{}\"", switch.name, switch.removed));
    }
    ensure!(wrong.is_empty(), "not as it must be: {}", wrong.join(", "));
    Ok(())
}

async fn one(options: &Options, system: &System, name: &str, faults: &[Fault]) -> Result<Outcome> {
    let mut options =
        Options { faults: faults.to_vec(), seconds: SECONDS, requests: REQUESTS, ..options.clone() };
    (options.accept_s, options.quiet_s) = (20, 20);
    if !name.is_empty() {
        options.start.environment.push((VARIABLE.to_owned(), name.to_owned()));
    }
    let mut report = Report::silent();
    let ran = run_once(&options, system.clone(), &mut report).await;
    if !name.is_empty() {
        let log = options.start.folder.join("run.log");
        let log = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let line = format!("sabotage: {name}");
        ensure!(log.contains(&line), "this host has no switch {name}: build it with the feature `sabotage`");
    }
    let mut failed: Vec<String> = report
        .failed()
        .map(|check| format!("{}: {}", check.name, check.failure.as_deref().unwrap_or_default()))
        .collect();
    let requests = match ran {
        Ok(summary) => summary.counts.map_or(REQUESTS as usize, |counts| counts.accepted),
        Err(error) => {
            failed.push(format!("{error:#}"));
            0
        }
    };
    Ok(Outcome { requests, failed })
}
