//! Checks the checks: runs hosts from which one protection was removed, with the faults that need it. Each run
//! must fail. A run of the same build with all protections must not.

use anyhow::{Context, Result, bail, ensure};

use super::description::System;
use super::run::{EARLY, run as run_once};
use super::{Fault, Options};
use saga_testkit::output;
use saga_testkit::report::Report;

const VARIABLE: &str = "SAGA_HOST_SABOTAGE";
const SECONDS: u64 = 40;
const REQUESTS: u64 = 900;
/// Where the moment is rare in which the protection counts.
const MANY_REQUESTS: u64 = 6_000;

/// Seconds until everything must be accepted, and until the system must be quiet: what is lost never comes.
const WITHIN_S: u64 = 40;
/// The length of a line about one failed check.
const SHOWN: usize = 160;

/// A protection that `host/src/sabotage.rs` removes, and the faults that show it.
struct Switch {
    name: &'static str,
    removed: &'static str,
    faults: &'static [Fault],
    requests: u64,
}

const SWITCHES: [Switch; 10] = [
    Switch {
        name: "repeats-handled",
        removed: "a repeated record is recognised by the dedup mark",
        faults: &[Fault::FreezeKill, Fault::Kill],
        requests: REQUESTS,
    },
    Switch {
        name: "claims-not-compared",
        removed: "a host that has lost a partition cannot write for it",
        faults: &[Fault::Stop],
        requests: REQUESTS,
    },
    Switch {
        name: "position-behind",
        removed: "the position is stored with the unit's effects",
        faults: &[Fault::Kill],
        requests: REQUESTS,
    },
    Switch {
        name: "sent-before-commit",
        removed: "records are sent after COMMIT",
        faults: &[Fault::PostgresCrash],
        requests: REQUESTS,
    },
    Switch {
        name: "cleared-before-acknowledged",
        removed: "the outbox keeps records until Kafka has acknowledged them",
        faults: &[Fault::FreezeKill],
        requests: MANY_REQUESTS,
    },
    Switch {
        name: "order-not-kept",
        removed: "the relay sends units in the order of the outbox",
        faults: &[Fault::FreezeKill],
        requests: REQUESTS,
    },
    Switch {
        name: "joined-at-once",
        removed: "records are handed over only to a lane that has read all before them",
        faults: &[Fault::FreezeKill, Fault::Kill],
        requests: REQUESTS,
    },
    Switch {
        name: "key-not-held",
        removed: "a parked delivery holds back later ones of its key",
        faults: &[Fault::Redrive],
        requests: REQUESTS,
    },
    Switch {
        name: "commit-guessed",
        removed: "a COMMIT without an answer is looked up",
        faults: &[Fault::PostgresCrash, Fault::PostgresCut],
        requests: MANY_REQUESTS,
    },
    Switch {
        name: "answers-not-kept",
        removed: "a repeated Idempotency-Key gets the stored answer",
        faults: &[Fault::Kill],
        requests: REQUESTS,
    },
];

/// How a run ended.
struct Outcome {
    requests: usize,
    failed: Vec<String>,
}

/// Runs without each of the named protections in turn. Without names, runs with all protections first, and
/// then without each.
pub(super) async fn run(options: &Options, names: &[String], system: &System) -> Result<()> {
    let known = |name: &String| SWITCHES.iter().any(|switch| switch.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = SWITCHES.iter().map(|switch| switch.name).collect();
        bail!("no protection {unknown}: choose from {}", all.join(", "));
    }
    output::line(&format!("{:<28}  {:<7}  {:>8}  checks that failed", "removed", "noticed", "requests"));
    let mut wrong = Vec::new();
    if names.is_empty() {
        let outcome = one(options, system, None, (&faults(), REQUESTS)).await?;
        outcome.print("nothing");
        wrong.extend(outcome.noticed().then_some("nothing"));
    }
    for switch in
        SWITCHES.iter().filter(|switch| names.is_empty() || names.iter().any(|name| name == switch.name))
    {
        let under = (switch.faults, switch.requests);
        let outcome = one(options, system, Some(switch.name), under).await?;
        outcome.print(switch.name);
        wrong.extend((!outcome.noticed()).then_some(switch.removed));
    }
    ensure!(wrong.is_empty(), "not as it must be: {}", wrong.join("; "));
    Ok(())
}

/// Those of all switches.
fn faults() -> Vec<Fault> {
    let mut all: Vec<Fault> = SWITCHES.iter().flat_map(|switch| switch.faults).copied().collect();
    all.sort_unstable_by_key(ToString::to_string);
    all.dedup();
    all
}

impl Outcome {
    fn noticed(&self) -> bool {
        !self.failed.is_empty()
    }

    fn print(&self, removed: &str) {
        let noticed = if self.noticed() { "yes" } else { "no" };
        let mut failed = self.failed.iter();
        let first = failed.next().map_or("", String::as_str);
        output::line(&format!("{removed:<28}  {noticed:<7}  {:>8}  {first}", self.requests));
        for further in failed {
            output::line(&format!("{:47}  {further}", ""));
        }
    }
}

async fn one(
    options: &Options,
    system: &System,
    name: Option<&str>,
    (faults, requests): (&[Fault], u64),
) -> Result<Outcome> {
    let mut options = Options { faults: faults.to_vec(), seconds: SECONDS, requests, ..options.clone() };
    (options.accept_s, options.quiet_s) = (WITHIN_S, WITHIN_S);
    if let Some(name) = name {
        options.start.environment.push((VARIABLE.to_owned(), name.to_owned()));
    }
    let mut report = Report::silent();
    let ran = run_once(&options, system.clone(), &mut report).await;
    if let Some(name) = name {
        let log = options.start.folder.join("run.log");
        let log = std::fs::read_to_string(&log).with_context(|| log.display().to_string())?;
        let line = format!("sabotage: {name}");
        ensure!(log.contains(&line), "this host has no switch {name}: build it with the feature `sabotage`");
    }
    let failed: Vec<String> = report
        .failed()
        .filter(|check| check.area != EARLY)
        .map(|check| short(&format!("{}: {}", check.name, check.failure.as_deref().unwrap_or_default())))
        .collect();
    // A run that could not be made has noticed nothing.
    let early = report.failed().filter(|check| check.area == EARLY).find_map(|check| check.failure.clone());
    let counts = ran?.counts;
    if let Some(reason) = early.filter(|_| failed.is_empty()) {
        bail!("the run with {} ended early: {reason}", name.unwrap_or("all protections"));
    }
    Ok(Outcome { requests: counts.map_or(0, |counts| counts.accepted), failed })
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}
