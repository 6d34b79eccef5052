//! One unit of HTTP writes, from the queue to its commit.

use std::collections::HashSet;

use super::{
    Setup,
    commit::commit,
    deliveries::in_work,
    flush::UnitWrites,
    materialize::{Caused, Materialized, Setting, materialize},
    open::{Opened, Opening},
    pending::{Answer, Idempotency, Pending},
    stages::Stage,
};
use crate::{
    clock::now_us,
    model::{
        effects::Effects,
        fault::Fault,
        request::{Request, Response},
        saga_log::Cause,
    },
};

/// What a committed unit did.
#[derive(Debug)]
pub struct Committed {
    /// One for each request, in order.
    pub answers: Vec<Answer>,
    /// Requests that the plugin handled.
    pub handled: usize,
    /// SQL statements of the plugin.
    pub statements: u32,
}

/// Runs `work` as one unit.
///
/// # Errors
/// Why it was rolled back; culprits by their place in `work`.
pub async fn run(setup: &mut Setup<'_>, work: &[Pending]) -> Result<Committed, Fault> {
    let request_keys =
        work.iter().filter_map(|pending| Some(pending.idempotency.as_ref()?.key.clone())).collect();
    let opening = Opening { request_keys, ..Opening::default() };
    let lease = setup.lease;
    let mut laps = setup.stages.begin();
    let opened = setup.open(&opening).await?;
    laps.end(Stage::Open);
    let mut answers: Vec<Option<Answer>> = work.iter().map(|pending| kept(pending, &opened)).collect();
    let running: Vec<usize> = (0..work.len()).filter(|place| answers[*place].is_none()).collect();
    let batch: Vec<&Request> = running.iter().map(|place| &work[*place].request).collect();
    let begun_us = now_us();
    let (responses, effects, statements) =
        handle(setup, &batch, begun_us).await.map_err(|fault| in_work(fault, &running))?;
    let begun: HashSet<(String, String)> =
        effects.begun.iter().map(|saga| (saga.saga_type.clone(), saga.key.clone())).collect();
    let mut writes = UnitWrites::of_answers();
    let causes: Vec<Caused<'_>> =
        running.iter().map(|place| caused(&work[*place], &setup.active.version.digest)).collect();
    let setting = Setting {
        unit: setup.unit_name(),
        database: &setup.service.database.name,
        plugin: &setup.service.name,
        now_us: now_us(),
        topics: &setup.service.topics,
    };
    let settled = materialize(&setting, effects, &causes, &mut writes);
    for (place, response) in running.iter().zip(&responses) {
        keep(&work[*place], response, &mut writes);
    }
    let Materialized { records, ended } = settled;
    let relay = setup.service.relay.clone();
    let waiters = setup.service.waiters.clone();
    // Before the relay hears of the unit: a saga that it begins cannot have ended yet.
    let answer = || {
        for (place, response) in running.iter().zip(responses) {
            answers[*place] = Some(Answer::Response(response, None));
        }
        for (pending, answer) in work.iter().zip(&mut answers) {
            if let Some(Answer::Response(response, wait)) = answer
                && pending.waits
            {
                let begun = response.saga.as_ref().is_some_and(|name| begun.contains(name));
                *wait = waiters.wait(response, begun);
            }
        }
        for saga in &ended {
            waiters.ended(&saga.saga_type, &saga.key, saga.answer.as_deref());
        }
    };
    laps.end(Stage::Plugin);
    commit(setup.connection()?, lease, &mut laps, writes, records, &relay, answer)
        .await
        .map_err(|fault| in_work(fault, &running))?;
    let answers = answers.into_iter().map(|answer| answer.unwrap_or(Answer::Unknown)).collect();
    Ok(Committed { answers, handled: running.len(), statements })
}

async fn handle(
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

/// The answer that was given before under the same key.
fn kept(pending: &Pending, opened: &Opened) -> Option<Answer> {
    let Idempotency { key, hash } = pending.idempotency.as_ref()?;
    let kept = opened.answers.get(key)?;
    if kept.hash != *hash {
        return Some(Answer::KeyReused);
    }
    match postcard::from_bytes(&kept.response) {
        Ok(response) => Some(Answer::Response(response, None)),
        Err(error) => Some(Answer::Failed(format!("the kept answer is not of this version: {error}"))),
    }
}

/// Keeps the answer to what was done; a request that was refused may be mended and sent again.
fn keep(pending: &Pending, response: &Response, writes: &mut UnitWrites) {
    let Some(Idempotency { key, hash }) = pending.idempotency.clone().filter(|_| response.status < 300)
    else {
        return;
    };
    // Vectors, numbers and texts: nothing that could fail to encode.
    writes.keep_answer(key, hash, postcard::to_stdvec(response).unwrap_or_default());
}

fn caused<'a>(pending: &'a Pending, digest: &'a str) -> Caused<'a> {
    let id = pending.request.id.as_str().into();
    let cause = Cause { kind: "request".into(), id, topic: None, partition: None, offset: None };
    Caused { cause, digest, trace: pending.trace }
}
