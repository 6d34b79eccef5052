//! One unit of HTTP writes: open → run → materialize → flush → commit.

use std::{collections::HashSet, sync::Arc};

use super::{
    Failed, RUNS_MAX, Setup,
    commit::commit,
    in_work,
    materialize::{EffectCause, EndedSaga, Materialized, materialize},
    open::{Opened, Opening},
    pending::{Answer, Idempotency, Pending},
    rows::StoredAnswerRow,
    stages::Stage,
    waiters::Waiters,
    writes::UnitWrites,
};
use crate::{
    model::{
        effects::Effects,
        fault::Fault,
        format::Format,
        request::{Request, Response},
        saga_log::Cause,
    },
    sabotage::{self, Switch},
};

/// What a committed unit did.
#[derive(Debug)]
pub struct CommittedRequests {
    /// One for each request, in order.
    pub answers: Vec<Answer>,
    /// Requests that the plugin handled.
    pub handled: usize,
    /// SQL statements of the plugin.
    pub statements: u32,
}

/// Types and keys of the sagas that a unit starts.
type Started = HashSet<(String, String)>;

/// Runs `work` as one unit, again after a lost race over a saga.
///
/// # Errors
/// Why it was rolled back; culprits by their place in `work`.
pub async fn run(
    setup: &mut Setup<'_>,
    waiters: &Arc<Waiters>,
    work: &[Pending],
) -> Result<CommittedRequests, Fault> {
    for _ in 1..RUNS_MAX {
        match run_once(setup, waiters, work).await {
            Err(failed) if failed.lost_race => setup.roll_back().await?,
            done => return done.map_err(|failed| failed.fault),
        }
    }
    run_once(setup, waiters, work).await.map_err(|failed| failed.fault)
}

async fn run_once(
    setup: &mut Setup<'_>,
    waiters: &Arc<Waiters>,
    work: &[Pending],
) -> Result<CommittedRequests, Failed> {
    let mut laps = setup.stages.start();
    let opened = setup.open(opening(work)).await?;
    laps.end(Stage::Open);
    let mut answers: Vec<Option<Answer>> = work.iter().map(|pending| stored(pending, &opened)).collect();
    let running: Vec<usize> = (0..work.len()).filter(|place| answers[*place].is_none()).collect();

    let batch: Vec<&Request> = running.iter().map(|place| &work[*place].request).collect();
    let clock = opened.clock;
    let called = call(setup, &batch, clock.now_us()).await;
    let (responses, effects, statements) = called.map_err(|fault| in_work(fault, &running))?;

    let started: Started =
        effects.started.iter().map(|saga| (saga.saga_type.clone(), saga.key.clone())).collect();
    let format = setup.backend.format.get();
    let mut writes = UnitWrites { callers_wait: true, format, ..UnitWrites::default() };
    let causes: Vec<EffectCause<'_>> =
        running.iter().map(|place| caused(&work[*place], &setup.active.version.digest)).collect();
    let context = setup.unit_context(clock.now_us());
    let Materialized { records, ended } = materialize(&context, effects, &causes, &mut writes);
    for (place, response) in running.iter().zip(&responses) {
        writes.stored_answers.extend(to_store(&work[*place], response, format));
    }
    laps.end(Stage::Plugin);

    let (lease, relay) = (setup.lease, setup.backend.relay.clone());
    // Before the relay learns of the unit: a saga that it starts cannot have ended yet.
    let answer = || {
        for (place, response) in running.iter().zip(responses) {
            answers[*place] = Some(Answer::Response(response, None));
        }
        register_waits(waiters, work, &mut answers, &started);
        notify_ended(waiters, &ended);
    };
    commit(setup.connection()?, lease, &mut laps, writes, records, &relay, answer)
        .await
        .map_err(|error| Failed::in_commit(error, &running))?;
    let answers = answers.into_iter().map(|answer| answer.unwrap_or(Answer::Unknown)).collect();
    Ok(CommittedRequests { answers, handled: running.len(), statements })
}

fn opening(work: &[Pending]) -> Opening {
    let keys = work.iter().filter_map(|pending| Some(pending.idempotency.as_ref()?.key.clone()));
    Opening { idempotency_keys: keys.collect(), ..Opening::default() }
}

async fn call(
    setup: &mut Setup<'_>,
    batch: &[&Request],
    now_us: i64,
) -> Result<(Vec<Response>, Effects, u32), Fault> {
    if batch.is_empty() {
        return Ok((Vec::new(), Effects::default(), 0));
    }
    let (session, call) = (setup.take_session()?, setup.call(now_us, false));
    let called = setup.active.version.handle_requests(session, &call, batch).await;
    *setup.session = called.session;
    Ok((called.result?, called.effects, called.statements))
}

/// The answer that was given earlier under the same key.
fn stored(pending: &Pending, opened: &Opened) -> Option<Answer> {
    let idempotency = pending.idempotency.as_ref()?;
    let stored = opened.stored_answers.get(&idempotency.key)?;
    if !idempotency.is_of(&stored.request_hash) {
        return Some(Answer::KeyReused);
    }
    Some(match Response::decode(&stored.response) {
        Ok(response) => Answer::Response(response, None),
        Err(error) => {
            Answer::Failed(format!("the stored answer to {} cannot be read: {error}", idempotency.key))
        }
    })
}

/// Only the answer to a request that was accepted: a refused one may be corrected and sent again.
fn to_store(pending: &Pending, response: &Response, format: Format) -> Option<StoredAnswerRow> {
    let Idempotency { key, hash, .. } = pending
        .idempotency
        .clone()
        .filter(|_| response.status < 300 && !sabotage::on(Switch::AnswersNotKept))?;
    Some(StoredAnswerRow { idempotency_key: key, request_hash: hash, response: response.encode_as(format) })
}

fn register_waits(
    waiters: &Arc<Waiters>,
    work: &[Pending],
    answers: &mut [Option<Answer>],
    started: &Started,
) {
    for (pending, answer) in work.iter().zip(answers) {
        if let Some(Answer::Response(response, wait)) = answer
            && pending.waits
        {
            let is_new = response.saga.as_ref().is_some_and(|name| started.contains(name));
            *wait = waiters.wait(response, is_new);
        }
    }
}

fn notify_ended(waiters: &Waiters, ended: &[EndedSaga]) {
    for saga in ended {
        waiters.ended(&saga.saga_type, &saga.key, saga.answer.as_deref());
    }
}

fn caused<'a>(pending: &'a Pending, digest: &'a str) -> EffectCause<'a> {
    let id = pending.request.id.as_str().into();
    let cause = Cause { kind: "request".into(), id, topic: None, partition: None, offset: None };
    EffectCause { cause, digest, trace: pending.trace.clone() }
}
