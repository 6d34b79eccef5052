//! One unit of Kafka records, timers and deadlines: admit → open → run → materialize → flush → commit.

mod opening;

use std::{collections::HashMap, sync::Arc, time::Duration};

use self::opening::{drop_handled_elsewhere, opening};
use super::{
    Failed, RUNS_MAX, Setup,
    admit::{Admission, Disposition, Work},
    commit::commit,
    in_work,
    materialize::{EffectCause, EndedSaga, materialize},
    open::Opened,
    outcome_writer::OutcomeWriter,
    overdue,
    runs::{Runs, VersionRun},
    stages::Stage,
    writes::UnitWrites,
};
use crate::{
    claims::partitions::{ClaimAdvance, PartitionClaims},
    metrics::SagaDurations,
    model::{
        delivery::{Delivery, OFFSET_UNKNOWN, Origin},
        effects::Effects,
        fault::{Culprit, Fault, ParkedUntil},
        outcome::Outcome,
        saga::LiveSaga,
        saga_log::Cause,
    },
    sabotage::{self, Switch},
    versions::running::Running,
};

/// What a committed unit did.
#[derive(Debug, Default)]
pub struct CommittedDeliveries {
    /// How its partitions advance. Where no unit was opened, they pass only repeats.
    pub advances: Vec<ClaimAdvance>,
    /// Sagas that ended.
    pub ended: Vec<EndedSaga>,
    /// What each version in it did.
    pub ran: Vec<Ran>,
    /// Deliveries that were handled, parked or queued: all but the dropped ones.
    pub dealt_with: usize,
    /// False when there was nothing to do: no unit was opened.
    pub committed: bool,
}

/// What one version did in a committed unit.
#[derive(Debug)]
pub struct Ran {
    /// The version.
    pub version: Arc<Running>,
    /// Deliveries that it handled.
    pub handled: usize,
    /// SQL statements that it ran.
    pub statements: u32,
}

/// Runs `work` as one unit, again after a lost race over a saga. Without work, it stores the positions that are
/// noted.
///
/// # Errors
/// Why it was rolled back.
pub async fn run(
    setup: &mut Setup<'_>,
    claims: &PartitionClaims,
    work: &[Work],
) -> Result<CommittedDeliveries, Failed> {
    for _ in 1..RUNS_MAX {
        match run_once(setup, claims, work).await {
            Err(failed) if failed.lost_race => setup.roll_back().await?,
            done => return done,
        }
    }
    run_once(setup, claims, work).await
}

async fn run_once(
    setup: &mut Setup<'_>,
    claims: &PartitionClaims,
    work: &[Work],
) -> Result<CommittedDeliveries, Failed> {
    let mut admission = claims.with(|claims| match work {
        [] => Admission::of_noted(claims),
        work => Admission::decide(work, claims),
    });
    if admission.is_empty() && !work.is_empty() {
        let advances = admission.advances.into_values().collect();
        return Ok(CommittedDeliveries { advances, ..CommittedDeliveries::default() });
    }
    let mut laps = setup.stages.start();
    let opened = setup.open(opening(&admission, work)).await?;
    laps.end(Stage::Open);
    give_up_lost(setup, claims, &admission, &opened)?;
    drop_handled_elsewhere(&mut admission, work, &opened);

    let clock = opened.clock;
    let started_us = clock.now_us();
    let running = places_to_run(&admission);
    let runs = Runs::of(setup.versions, setup.active, work, running, opened.sagas)?;
    let batch: Vec<&Delivery> = runs.deliveries.iter().map(|place| &work[*place].delivery).collect();
    let Handled { outcomes, mut effects, ran } = call(setup, &runs, &batch, started_us).await?;
    keep_order(&batch, &outcomes).map_err(|fault| in_work(fault, &runs.deliveries))?;

    let mut writes = UnitWrites { format: setup.backend.format.get(), ..UnitWrites::default() };
    let mut causes: Vec<EffectCause<'_>> =
        batch.iter().enumerate().map(|(place, delivery)| caused(delivery, runs.digest(place))).collect();
    let mut outcome_writer = OutcomeWriter {
        plugin: &setup.backend.plugin,
        writes: &mut writes,
        admission: &mut admission,
        attempts_max: setup.active.version.policy.limits.attempts_max,
    };
    for (delivery, outcome) in batch.iter().zip(&outcomes) {
        outcome_writer.handled(delivery, outcome);
    }
    causes.extend(write_not_handled(&mut outcome_writer, work, &setup.active.version.digest));
    overdue::mark(&runs.sagas, &causes, started_us, &mut effects);
    let materialized = materialize(&setup.unit_context(clock.now_us()), effects, &causes, &mut writes);
    laps.end(Stage::Plugin);

    let (lease, relay) = (setup.lease, setup.backend.relay.clone());
    commit(setup.connection()?, lease, &mut laps, writes, materialized.records, &relay, || {})
        .await
        .map_err(|error| Failed::in_commit(error, &runs.deliveries))?;
    observe_ended(&setup.backend.saga_durations, &materialized.ended, &runs.sagas, clock.now_us());
    setup.backend.ignored.add(outcomes.iter().filter_map(Outcome::ignored_because));
    Ok(CommittedDeliveries {
        dealt_with: admission.dispositions.iter().filter(|one| **one != Disposition::Drop).count(),
        advances: admission.advances.into_values().collect(),
        ended: materialized.ended,
        ran,
        committed: true,
    })
}

/// Observes how long each ended saga took, counted from its row.
fn observe_ended(durations: &SagaDurations, ended: &[EndedSaga], sagas: &[LiveSaga], now_us: i64) {
    if ended.is_empty() {
        return;
    }
    let started: HashMap<(&str, &str), i64> =
        sagas.iter().map(|saga| ((&*saga.saga_type, &*saga.key), saga.started_at_us)).collect();
    for saga in ended {
        if let Some(started) = started.get(&(&*saga.saga_type, &*saga.key)) {
            let took = u64::try_from(now_us - started).unwrap_or(0);
            durations.observe(saga.ending, Duration::from_micros(took));
        }
    }
}

/// A unit that reads a partition which another host has claimed is rolled back as a whole: the foreign ids of
/// those records were recorded in the same round trip.
fn give_up_lost(
    setup: &Setup<'_>,
    claims: &PartitionClaims,
    admission: &Admission,
    opened: &Opened,
) -> Result<(), Fault> {
    let lost = admission.lost(&opened.claim_ids);
    if lost.is_empty() || sabotage::on(Switch::ClaimsNotCompared) {
        return Ok(());
    }
    for place in lost {
        let (plugin, topic, partition) = (&setup.backend.plugin, &*place.0, place.1);
        tracing::warn!(plugin, topic, partition, "another host has claimed this partition");
        claims.lose(place);
    }
    Err(Fault::PartitionsLost)
}

fn places_to_run(admission: &Admission) -> Vec<usize> {
    let dispositions = admission.dispositions.iter().enumerate();
    dispositions.filter(|(_, one)| **one == Disposition::Run).map(|(place, _)| place).collect()
}

/// What the calls of a unit returned, in the order of its runs.
#[derive(Default)]
struct Handled {
    outcomes: Vec<Outcome>,
    effects: Effects,
    ran: Vec<Ran>,
}

/// Calls each version once.
async fn call(
    setup: &mut Setup<'_>,
    runs: &Runs,
    batch: &[&Delivery],
    now_us: i64,
) -> Result<Handled, Failed> {
    let mut handled = Handled::default();
    for VersionRun { version, deliveries, sagas } in &runs.runs {
        let (session, setting) = (setup.take_session()?, setup.call(now_us, false));
        let (batch, sagas) = (&batch[deliveries.clone()], &runs.sagas[sagas.clone()]);
        let called = version.version.handle_deliveries(session, &setting, batch, sagas).await;
        *setup.session = called.session;
        handled.outcomes.extend(called.result.map_err(|fault| Failed {
            version: Some(version.clone()),
            ..in_work(fault, &runs.deliveries[deliveries.clone()]).into()
        })?);
        if handled.effects.share_a_saga_with(&called.effects) {
            let reason =
                "two versions advance one saga in one unit, and neither sees what the other does with it";
            return Err(Fault::Guest(reason.into()).into());
        }
        handled.effects.append(called.effects, u32::try_from(deliveries.start).unwrap_or(u32::MAX));
        handled.ran.push(Ran {
            version: version.clone(),
            handled: batch.len(),
            statements: called.statements,
        });
    }
    Ok(handled)
}

/// A delivery that waits must not be overtaken by a later one of its key: then it is taken out first, so that
/// the later one queues behind it.
fn keep_order(batch: &[&Delivery], outcomes: &[Outcome]) -> Result<(), Fault> {
    let mut culprits = Vec::new();
    for (place, outcome) in outcomes.iter().enumerate() {
        let (reason, until) = match outcome {
            Outcome::Done | Outcome::Ignored(_) => continue,
            Outcome::Retry { after_ms, reason } => (reason, ParkedUntil::RetryAfterMs(*after_ms)),
            Outcome::Reject(reason) => (reason, ParkedUntil::Redriven),
        };
        let key = batch[place].correlation.as_deref();
        let overtaken =
            key.is_some() && batch[place + 1..].iter().any(|later| later.shares_order_with(batch[place]));
        if overtaken {
            culprits.push(Culprit { cause: place, reason: reason.clone(), until });
        }
    }
    if culprits.is_empty() { Ok(()) } else { Err(Fault::Culprits(culprits)) }
}

/// Writes down the deliveries that no version got; returns the deadlines among them, which may become
/// overdue.
fn write_not_handled<'a>(
    outcome_writer: &mut OutcomeWriter<'_>,
    work: &'a [Work],
    active_digest: &'a str,
) -> Vec<EffectCause<'a>> {
    let mut deadlines = Vec::new();
    for (place, item) in work.iter().enumerate() {
        let disposition = outcome_writer.admission.dispositions[place];
        let written = outcome_writer.not_handled(disposition, item);
        if written && matches!(item.delivery.origin, Origin::Deadline { .. }) {
            deadlines.push(caused(&item.delivery, active_digest));
        }
    }
    deadlines
}

fn caused<'a>(delivery: &'a Delivery, digest: &'a str) -> EffectCause<'a> {
    let mut cause = Cause {
        kind: "kafka".into(),
        id: delivery.id.as_str().into(),
        topic: None,
        partition: None,
        offset: None,
    };
    match &delivery.origin {
        Origin::Kafka { topic, partition, offset } => {
            cause.topic = Some((&**topic).into());
            cause.partition = Some(*partition);
            cause.offset = Some(Some(*offset).filter(|offset| *offset != OFFSET_UNKNOWN));
        }
        Origin::Timer { .. } => cause.kind = "timer".into(),
        Origin::Deadline { .. } => cause.kind = "deadline".into(),
    }
    EffectCause { cause, digest, trace: delivery.trace.clone() }
}
