//! The lane of HTTP writes. One bad request never fails the others: the plugin answers it, or halving finds
//! it and takes it out of the batch.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    batching::{BatchLimit, BatchTimer},
    connection::{LaneConnection, LaneContext},
    recovery::Recovery,
    suspicion::{self, Step, Tried},
};
use crate::{
    model::{
        fault::{Fault, Suspicion},
        manifest::route_index,
        queue::Queue,
    },
    unit::{
        pending::{Answer, Pending},
        requests::{self, CommittedRequests},
        stages::Stages,
        waiters::Waiters,
    },
    versions::{
        rollback_guard::{self, LaneKind},
        running::Running,
    },
};

/// The HTTP lane of one plugin.
#[derive(Debug)]
pub struct HttpLane {
    connection: LaneConnection,
    requests: Arc<Queue<Pending>>,
    waiters: Arc<Waiters>,
    timer: BatchTimer,
}

impl HttpLane {
    /// A lane that [`Self::run`] starts. It takes `requests`, and registers in `waiters` the callers that
    /// wait for the end of a saga.
    #[must_use]
    pub fn new(
        context: LaneContext,
        stages: Arc<Stages>,
        requests: Arc<Queue<Pending>>,
        waiters: Arc<Waiters>,
    ) -> Self {
        let connection = LaneConnection::new(context, "http", stages);
        Self { connection, requests, waiters, timer: BatchTimer::new() }
    }

    /// Answers requests until the queue is closed and empty, or until the host stops while Postgres is
    /// unreachable.
    pub async fn run(mut self) {
        let requests = self.requests.clone();
        while self.connection.acquire().await {
            tokio::select! {
                ready = requests.ready() => if !ready { break },
                () = tokio::time::sleep_until(self.connection.renew_at()) => {
                    self.connection.renew().await;
                    continue;
                }
            }
            self.timer.pause(Duration::ZERO).await;
            let batch = self.take_batch();
            self.timer.start();
            self.process(batch).await;
            self.connection.backend.relay.notifier().set_unit_duration(self.timer.end());
        }
        self.connection.release().await;
    }

    /// Two requests with one `Idempotency-Key` never share a unit: the second waits for the next.
    fn take_batch(&self) -> Vec<Pending> {
        let active = self.connection.versions.active();
        let mut limit = BatchLimit::new(&active.version.policy.limits);
        let mut keys: HashSet<String> = HashSet::new();
        self.requests.take_while(|pending| {
            let key = pending.idempotency.as_ref().map(|idempotency| &idempotency.key);
            limit.takes(pending.size()) && key.is_none_or(|key| keys.insert(key.clone()))
        })
    }

    /// Answers all of `batch` in as few units as its culprits allow.
    async fn process(&mut self, batch: Vec<Pending>) {
        let mut parts = vec![(batch, Tried::not_yet())];
        while let Some((part, mut tried)) = parts.pop() {
            if !self.connection.acquire().await {
                continue;
            }
            // The route indexes, the unit and the blame must all be about one version.
            let active = self.connection.versions.active();
            let mut part = self.resolve(&active, part);
            if part.is_empty() {
                continue;
            }
            let fault = match self.unit(&active, &part, tried.met_lock).await {
                Ok(answers) => {
                    reply(part, answers);
                    continue;
                }
                Err(fault) => fault,
            };
            match self.connection.recover(fault).await {
                Recovery::Again => parts.push((part, tried)),
                // The caller gets 503. Other parts may still be answered.
                Recovery::Stop => {}
                Recovery::UnknownOutcome => {
                    let unknown = part.iter().map(|_| Answer::Unknown).collect();
                    reply(part, unknown);
                }
                Recovery::TakeOut(culprits) => {
                    for culprit in culprits.into_iter().rev() {
                        if culprit.cause < part.len() {
                            self.blame(&active, part.remove(culprit.cause), &culprit.reason);
                        }
                    }
                    parts.push((part, tried));
                }
                Recovery::Halve(reason) => {
                    let halves = self.halve(&active, part, &reason);
                    parts.extend(halves.into_iter().map(|half| (half, tried)));
                }
                Recovery::Weigh(suspicion) => {
                    tried.failed(suspicion.kind);
                    let rest = self.weigh(&active, part, tried, suspicion).await;
                    parts.extend(rest.into_iter().map(|part| (part, tried)));
                }
            }
        }
        self.connection.resume();
    }

    /// Does what follows from a failure of an unclear cause. Returns what is to run again.
    async fn weigh(
        &mut self,
        active: &Running,
        part: Vec<Pending>,
        tried: Tried,
        Suspicion { kind, reason }: Suspicion,
    ) -> Vec<Vec<Pending>> {
        let evidence = self.connection.evidence(kind, tried, part.len()).await;
        match suspicion::next(kind, &evidence) {
            Step::Again => vec![part],
            // A host that stops drops the requests: the caller gets 503.
            Step::Pause if self.connection.pause(&reason).await => vec![part],
            Step::Pause => Vec::new(),
            Step::Halve => self.halve(active, part, &reason),
            Step::Blame => {
                self.connection.count_suspect();
                self.halve(active, part, &reason)
            }
            Step::Park | Step::PauseAndPark => {
                self.connection.count_suspect();
                part.into_iter().for_each(|pending| self.not_now(pending, &reason));
                Vec::new()
            }
        }
    }

    /// Drops requests whose caller has gone, and sets the route index of the others in the active version.
    fn resolve(&self, active: &Running, part: Vec<Pending>) -> Vec<Pending> {
        let mut known = Vec::with_capacity(part.len());
        for mut pending in part {
            if pending.reply.is_closed() {
                continue;
            }
            match route_index(&active.version.manifest, &pending.route) {
                Some(route) => {
                    pending.request.route = route;
                    known.push(pending);
                }
                None => self.fail(active, pending, "the active version no longer has this route"),
            }
        }
        known
    }

    async fn unit(
        &mut self,
        active: &Arc<Running>,
        work: &[Pending],
        is_suspect: bool,
    ) -> Result<Vec<Answer>, Fault> {
        let waiters = self.waiters.clone();
        let Some(mut setup) = self.connection.setup(active, is_suspect) else { return Err(Fault::LaneLost) };
        let started = Instant::now();
        let CommittedRequests { answers, handled, statements } =
            requests::run(&mut setup, &waiters, work).await?;
        self.connection.committed(handled > 0);
        active.counters.unit(handled, statements);
        if handled > 0 {
            rollback_guard::succeeded(active, LaneKind::Requests);
        }
        let plugin = &self.connection.backend.plugin;
        tracing::debug!(plugin, requests = work.len(), us = started.elapsed().as_micros(), "unit committed");
        Ok(answers)
    }

    /// Returns the two halves, the first one last, because the caller takes the last part next. A request
    /// that is alone fails.
    fn halve(&self, active: &Running, mut part: Vec<Pending>, reason: &str) -> Vec<Vec<Pending>> {
        if part.len() <= 1 {
            part.into_iter().for_each(|pending| self.blame(active, pending, reason));
            return Vec::new();
        }
        let plugin = &self.connection.backend.plugin;
        tracing::debug!(plugin, requests = part.len(), reason, "unit halved");
        let second = part.split_off(part.len() / 2);
        vec![second, part]
    }

    fn blame(&self, active: &Running, pending: Pending, reason: &str) {
        self.connection.versions.failed(active, LaneKind::Requests, reason);
        self.fail(active, pending, reason);
    }

    /// Answers a request that failed for an unclear cause, alone: its caller may repeat it.
    fn not_now(&self, pending: Pending, reason: &str) {
        let (plugin, request) = (&self.connection.backend.plugin, &pending.request.id);
        tracing::warn!(plugin, request, trace = pending.trace.id(), reason, "request not answered");
        reply(vec![pending], vec![Answer::NotNow(reason.to_owned())]);
    }

    fn fail(&self, active: &Running, pending: Pending, reason: &str) {
        active.counters.errors.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            plugin = self.connection.backend.plugin,
            request = pending.request.id,
            trace = pending.trace.id(),
            reason,
            "request failed"
        );
        reply(vec![pending], vec![Answer::Failed(reason.to_owned())]);
    }
}

/// A caller that has gone repeats the request with the same id, so a lost answer does no harm.
fn reply(part: Vec<Pending>, answers: Vec<Answer>) {
    for (pending, answer) in part.into_iter().zip(answers) {
        let _gone = pending.reply.send(answer);
    }
}
