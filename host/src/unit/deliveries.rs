//! One unit of Kafka records, timers and deadlines, from its admission to its commit.

use std::sync::Arc;

use super::{
    Setup,
    admit::{Admission, Disposition, Parking, Work},
    commit::commit,
    flush::{Held, UnitWrites},
    materialize::{Caused, Ended, Setting, materialize},
    open::{Opened, Opening},
    overdue,
    runs::{Run, Runs},
    stages::Stage,
};
use crate::{
    claims::partitions::{ClaimAdvance, PartitionClaims},
    clock::now_us,
    model::{
        delivery::{Delivery, Origin},
        effects::Effects,
        fault::{Culprit, Fault, ParkedUntil, retry_after_ms},
        outcome::Outcome,
        saga_log::Cause,
    },
    versions::running::Running,
};

/// What a committed unit did.
#[derive(Debug, Default)]
pub struct Committed {
    /// How the sources stand now.
    pub advances: Vec<ClaimAdvance>,
    /// Sagas that ended.
    pub ended: Vec<Ended>,
    /// What each version in it did.
    pub ran: Vec<Ran>,
    /// Deliveries that were handled, and those that were set parking: all but the dropped.
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

/// Why a unit was rolled back.
#[derive(Debug)]
pub struct Failed {
    /// Culprits by their place in the work.
    pub fault: Fault,
    /// The version whose call failed; none when it was not in a call.
    pub version: Option<Arc<Running>>,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, version: None }
    }
}

/// Runs `work` as one unit.
///
/// # Errors
/// Why it was rolled back.
pub async fn run(
    setup: &mut Setup<'_>,
    claims: &PartitionClaims,
    work: &[Work],
) -> Result<Committed, Failed> {
    let mut admission = claims.with(|claims| Admission::decide(work, claims));
    if admission.is_empty() {
        return Ok(Committed::default());
    }
    let opening = opening(&admission, work);
    let lease = setup.lease;
    let mut laps = setup.stages.begin();
    let opened = setup.open(&opening).await?;
    laps.end(Stage::Open);
    let lost = admission.lost(&opened.claims);
    if !lost.is_empty() {
        // Rolled back: the ids of foreign records that are the other host's now were noted in the same trip.
        for place in lost {
            let plugin = &setup.service.name;
            tracing::warn!(
                plugin,
                topic = &*place.0,
                partition = place.1,
                "another host has claimed this partition"
            );
            claims.lose(place);
        }
        return Err(Fault::PartitionsLost.into());
    }
    drop_what_is_gone(&mut admission, work, &opened);
    let running =
        (0..work.len()).filter(|place| admission.dispositions[*place] == Disposition::Run).collect();
    let begun_us = now_us();
    let runs = Runs::of(setup.service, setup.active, work, running, opened.sagas)?;
    let batch: Vec<&Delivery> = runs.deliveries.iter().map(|place| &work[*place].delivery).collect();
    let Handled { outcomes, mut effects, ran } = handle(setup, &runs, &batch, begun_us).await?;
    let mut writes = UnitWrites::default();
    keep_order(&batch, &outcomes).map_err(|fault| in_work(fault, &runs.deliveries))?;
    let active_digest = &setup.active.version.digest;
    let mut causes: Vec<Caused<'_>> =
        batch.iter().enumerate().map(|(cause, delivery)| caused(delivery, runs.digest(cause))).collect();
    let mut book = Book {
        plugin: &setup.service.name,
        writes: &mut writes,
        admission: &mut admission,
        attempts_max: setup.active.version.policy.limits.attempts_max,
    };
    for (delivery, outcome) in batch.iter().zip(&outcomes) {
        book.note(delivery, outcome);
    }
    for (place, item) in work.iter().enumerate() {
        match (book.admission.dispositions[place].clone(), &item.parking) {
            (Disposition::Park, Some(parking)) => book.park(&item.delivery, parking),
            (Disposition::Queue, _) => book.queue(&item.delivery),
            _ => continue,
        }
        if matches!(item.delivery.origin, Origin::Deadline { .. }) {
            causes.push(caused(&item.delivery, active_digest));
        }
    }
    overdue::mark(&runs.sagas, &causes, begun_us, &mut effects);
    let unit = setup.unit_name();
    let setting = Setting {
        unit,
        database: &setup.service.database.name,
        plugin: &setup.service.name,
        now_us: now_us(),
        topics: &setup.service.topics,
    };
    let settled = materialize(&setting, effects, &causes, &mut writes);
    let relay = setup.service.relay.clone();
    laps.end(Stage::Plugin);
    commit(setup.connection()?, lease, &mut laps, writes, settled.records, &relay, || {})
        .await
        .map_err(|fault| in_work(fault, &runs.deliveries))?;
    let dealt_with =
        admission.dispositions.iter().filter(|disposition| **disposition != Disposition::Drop).count();
    Ok(Committed {
        advances: admission.advances.into_values().collect(),
        ended: settled.ended,
        ran,
        dealt_with,
        committed: true,
    })
}

fn opening(admission: &Admission, work: &[Work]) -> Opening {
    let mut opening = Opening { claims: admission.claim_advances.clone(), ..Opening::default() };
    for (item, disposition) in work.iter().zip(&admission.dispositions) {
        let delivery = &item.delivery;
        if *disposition == Disposition::Drop {
            continue;
        }
        match (&delivery.origin, delivery.parked_id) {
            (_, Some(id)) => opening.held.push(id),
            (Origin::Timer { name }, None) => opening.timers.push(name.clone()),
            (_, None) => opening.foreign_ids.extend(delivery.foreign_id.clone()),
        }
        if *disposition == Disposition::Run || matches!(delivery.origin, Origin::Deadline { .. }) {
            opening.saga_keys.extend(delivery.saga_key().map(str::to_owned));
        }
    }
    opening.saga_keys.sort_unstable();
    opening.saga_keys.dedup();
    opening
}

/// What another host, a person or a faster reply has dealt with meanwhile.
fn drop_what_is_gone(admission: &mut Admission, work: &[Work], opened: &Opened) {
    for (disposition, item) in admission.dispositions.iter_mut().zip(work) {
        let delivery = &item.delivery;
        let there = match (&delivery.origin, delivery.parked_id) {
            (_, Some(id)) => opened.held.contains(&id),
            // One that was set anew has another payload.
            (Origin::Timer { name }, None) => opened.timers.get(name) == Some(&delivery.timestamp_us),
            (Origin::Deadline { saga_type, key, revision }, None) => opened
                .sagas
                .iter()
                .any(|saga| saga.saga_type == *saga_type && saga.key == *key && saga.revision == *revision),
            (Origin::Kafka { .. }, None) => {
                delivery.foreign_id.as_ref().is_none_or(|id| opened.new_ids.contains(id))
            }
        };
        if !there {
            *disposition = Disposition::Drop;
        }
    }
}

/// What the calls of a unit gave, in the order of its runs.
#[derive(Default)]
struct Handled {
    outcomes: Vec<Outcome>,
    effects: Effects,
    ran: Vec<Ran>,
}

async fn handle(
    setup: &mut Setup<'_>,
    runs: &Runs,
    batch: &[&Delivery],
    now_us: i64,
) -> Result<Handled, Failed> {
    let mut handled = Handled::default();
    for Run { version, deliveries, sagas } in &runs.runs {
        let (session, setting) = (setup.take_session()?, setup.call(now_us, false));
        let (batch, sagas) = (&batch[deliveries.clone()], &runs.sagas[sagas.clone()]);
        let called = version.version.handle_deliveries(session, &setting, batch, sagas).await;
        *setup.session = called.session;
        let failed = |fault| Failed {
            fault: in_work(fault, &runs.deliveries[deliveries.clone()]),
            version: Some(version.clone()),
        };
        handled.outcomes.extend(called.result.map_err(failed)?);
        if handled.effects.share_a_saga_with(&called.effects) {
            let reason = "two versions move one saga, and neither sees what the other does with it";
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

/// What waits must not be overtaken by a later one of its key: then it is taken out first, so that
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

/// Culprits by their place in the work instead of in the call.
pub(super) fn in_work(fault: Fault, running: &[usize]) -> Fault {
    let Fault::Culprits(culprits) = fault else { return fault };
    let known = culprits
        .into_iter()
        .filter_map(|culprit| Some(Culprit { cause: *running.get(culprit.cause)?, ..culprit }));
    let mut culprits: Vec<Culprit> = known.collect();
    if culprits.is_empty() {
        return Fault::Guest("the plugin names culprits that are not in its batch".into());
    }
    culprits.sort_by_key(|culprit| culprit.cause);
    culprits.dedup_by_key(|culprit| culprit.cause);
    Fault::Culprits(culprits)
}

fn caused<'a>(delivery: &'a Delivery, digest: &'a str) -> Caused<'a> {
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
            cause.offset = Some(*offset);
        }
        Origin::Timer { .. } => cause.kind = "timer".into(),
        Origin::Deadline { .. } => cause.kind = "deadline".into(),
    }
    Caused { cause, digest, trace: delivery.trace }
}

/// Writes down what becomes of each delivery.
struct Book<'a> {
    plugin: &'a str,
    writes: &'a mut UnitWrites,
    admission: &'a mut Admission,
    attempts_max: u32,
}

impl Book<'_> {
    fn note(&mut self, delivery: &Delivery, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.finish(delivery),
            Outcome::Ignored(reason) => {
                self.finish(delivery);
                self.writes.ignore(delivery.source(), delivery.correlation.clone(), reason.clone());
            }
            Outcome::Retry { after_ms, reason } => {
                self.park(
                    delivery,
                    &Parking { reason: reason.clone(), until: ParkedUntil::RetryAfterMs(*after_ms) },
                );
            }
            Outcome::Reject(reason) => {
                self.park(delivery, &Parking { reason: reason.clone(), until: ParkedUntil::Redriven });
            }
        }
    }

    fn finish(&mut self, delivery: &Delivery) {
        if let Some(id) = delivery.parked_id {
            self.writes.held_gone.push(id);
            if let (Some(key), Some(advance)) = (&delivery.correlation, self.admission.advance_for(delivery))
            {
                advance.freed.push(key.clone());
            }
        } else if let Origin::Timer { name } = &delivery.origin {
            self.writes.timers_gone.push(name.clone());
        }
    }

    fn park(&mut self, delivery: &Delivery, parking: &Parking) {
        // One that waits counts once at the most: of none, it would be taken for one that queues.
        let attempt = match parking.until {
            ParkedUntil::VersionRetryMs(_) => delivery.attempt.saturating_sub(1).max(1),
            _ => delivery.attempt,
        };
        let retry_ms = match parking.until {
            ParkedUntil::Backoff => retry_after_ms(attempt, self.attempts_max),
            ParkedUntil::RetryAfterMs(ms) => (attempt < self.attempts_max).then_some(i64::from(ms)),
            ParkedUntil::VersionRetryMs(ms) => Some(i64::from(ms)),
            ParkedUntil::Redriven => None,
        };
        let attempts = i32::try_from(attempt).unwrap_or(i32::MAX);
        tracing::warn!(
            plugin = self.plugin,
            source = delivery.source(),
            attempt,
            trace = delivery.trace.id(),
            retry_ms,
            reason = parking.reason,
            "delivery held"
        );
        match delivery.parked_id {
            Some(id) => self.writes.hold_again(id, parking.reason.clone(), attempts, retry_ms),
            None => self.hold(delivery, &parking.reason, attempts, retry_ms),
        }
    }

    /// Attempts of 0: it was never tried, and its turn comes when it is the first of its key.
    fn queue(&mut self, delivery: &Delivery) {
        self.hold(delivery, "an earlier delivery of its key is held", 0, None);
    }

    fn hold(&mut self, delivery: &Delivery, reason: &str, attempts: i32, retry_ms: Option<i64>) {
        let (topic, partition, position) = match &delivery.origin {
            Origin::Kafka { topic, partition, offset } => (topic.to_string(), *partition, *offset),
            Origin::Timer { name } => {
                self.writes.timers_gone.push(name.clone());
                (format!("timer/{name}"), -1, 0)
            }
            // The saga's own row brings it back.
            Origin::Deadline { .. } => return,
        };
        // Vectors, numbers and texts: nothing that could fail to encode.
        let body = postcard::to_stdvec(delivery).unwrap_or_default();
        let key = delivery.correlation.clone();
        if let (Some(key), Some(advance)) = (&key, self.admission.advance_for(delivery)) {
            advance.parked.push(key.clone());
        }
        self.writes.hold(Held {
            topic,
            partition,
            position,
            key,
            body,
            reason: reason.to_owned(),
            attempts,
            retry_ms,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Admission, Disposition, Opened, Origin, Work, drop_what_is_gone};
    use crate::lane::scheduler::bare;

    #[test]
    fn a_timer_that_was_set_anew_is_left_alone() {
        let work = ["same", "anew", "gone"]
            .map(|name| Work { delivery: bare(Origin::Timer { name: name.into() }, 7), parking: None });
        let timers = HashMap::from([("same".into(), 7), ("anew".into(), 9)]);
        let mut admission = Admission::decide(&work, &HashMap::new());
        drop_what_is_gone(&mut admission, &work, &Opened { timers, ..Opened::default() });
        assert_eq!(admission.dispositions, [Disposition::Run, Disposition::Drop, Disposition::Drop]);
    }
}
