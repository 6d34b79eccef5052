//! The lane of HTTP writes. One bad request never takes the others with it: the plugin answers it,
//! or is halved out of the batch.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{batching::Pace, connection::Seat};
use crate::{
    model::{fault::Fault, manifest::route_index},
    rollout::service::Service,
    unit::{
        pending::{Answer, Pending},
        requests::{self, Committed},
    },
    versions::{
        rollback_guard::{self, Kind},
        running::Running,
    },
};

/// The HTTP lane of one plugin.
#[derive(Debug)]
pub struct HttpLane {
    seat: Seat,
    pace: Pace,
}

impl HttpLane {
    /// `owner` names the host; `stop` ends it when the queue is closed and empty.
    #[must_use]
    pub fn new(service: Arc<Service>, owner: &str, stop: CancellationToken) -> Self {
        let stages = service.request_stages.clone();
        Self { seat: Seat::new(service, "http", stages, owner, stop), pace: Pace::new() }
    }

    /// Answers requests until the queue is closed and empty, or Postgres is away when `stop` comes.
    pub async fn run(mut self) {
        let service = self.seat.service.clone();
        while self.seat.take().await {
            tokio::select! {
                ready = service.requests.ready() => if !ready { break },
                () = tokio::time::sleep_until(self.seat.renew_at()) => {
                    self.seat.renew().await;
                    continue;
                }
            }
            self.pace.rest(Duration::ZERO).await;
            let batch = self.take_batch();
            self.pace.start();
            self.process(batch).await;
            self.seat.service.relay.neighbours().units_take(self.pace.end());
        }
        self.seat.release().await;
    }

    /// Two requests of one key never share a unit: the second waits for the next.
    fn take_batch(&self) -> Vec<Pending> {
        let limits = &self.seat.service.active.load().version.policy.limits;
        let (mut requests, mut bytes) = (limits.batch_deliveries_max, limits.call_bytes_max);
        let mut keys: HashSet<(u8, String)> = HashSet::new();
        self.seat.service.requests.take_while(|pending| {
            let fits = requests > 0 && (bytes >= pending.size() || requests == limits.batch_deliveries_max);
            let mut fresh =
                |kind: u8, key: Option<&String>| key.is_none_or(|key| keys.insert((kind, key.clone())));
            let alone = fits
                && fresh(0, pending.correlation.as_ref())
                && fresh(1, pending.idempotency.as_ref().map(|idempotency| &idempotency.key));
            requests = requests.saturating_sub(1);
            bytes = bytes.saturating_sub(pending.size());
            alone
        })
    }

    async fn process(&mut self, batch: Vec<Pending>) {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if !self.seat.take().await {
                continue;
            }
            // One version for the numbers of the routes, for the unit, and for who is to blame.
            let active = self.seat.service.active.load_full();
            let mut part = self.resolve(&active, part);
            if part.is_empty() {
                continue;
            }
            let fault = match self.unit(&active, &part).await {
                Ok(answers) => {
                    reply(part, answers);
                    continue;
                }
                Err(fault) => fault,
            };
            self.seat.recover(&fault).await;
            match fault {
                Fault::Environment(why) => {
                    if self.seat.pause(&why).await {
                        parts.push(part);
                    }
                }
                // Requests read no partition and correlate with no saga, so that they lose and load none.
                Fault::LaneLost | Fault::PartitionsLost | Fault::VersionNotLoaded(_) => parts.push(part),
                Fault::Unknown => {
                    let unknown = part.iter().map(|_| Answer::Unknown).collect();
                    reply(part, unknown);
                }
                Fault::Culprits(culprits) => {
                    for culprit in culprits.into_iter().rev() {
                        if culprit.cause < part.len() {
                            rollback_guard::failed(
                                &self.seat.service,
                                &active,
                                Kind::Requests,
                                &culprit.reason,
                            );
                            self.fail(&active, part.remove(culprit.cause), &culprit.reason);
                        }
                    }
                    parts.push(part);
                }
                Fault::Guest(reason) if part.len() <= 1 => {
                    for pending in part {
                        rollback_guard::failed(&self.seat.service, &active, Kind::Requests, &reason);
                        self.fail(&active, pending, &reason);
                    }
                }
                Fault::Guest(reason) => {
                    tracing::debug!(
                        plugin = self.seat.service.name,
                        requests = part.len(),
                        reason,
                        "unit halved"
                    );
                    let rest = part.split_off(part.len() / 2);
                    parts.push(rest);
                    parts.push(part);
                }
            }
        }
    }

    /// Callers that have gone are left out; the others get the route's number in the version that runs.
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
                None => self.fail(active, pending, "the route is gone with the version that had it"),
            }
        }
        known
    }

    async fn unit(&mut self, active: &Arc<Running>, work: &[Pending]) -> Result<Vec<Answer>, Fault> {
        let Some(mut setup) = self.seat.setup(active) else { return Err(Fault::LaneLost) };
        let began = Instant::now();
        let Committed { answers, handled, statements } = requests::run(&mut setup, work).await?;
        self.seat.committed();
        active.counters.unit(handled, statements);
        if handled > 0 {
            rollback_guard::succeeded(active, Kind::Requests);
        }
        tracing::debug!(
            plugin = self.seat.service.name,
            requests = work.len(),
            us = began.elapsed().as_micros(),
            "unit committed"
        );
        Ok(answers)
    }

    fn fail(&self, active: &Running, pending: Pending, reason: &str) {
        active.counters.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::error!(
            plugin = self.seat.service.name,
            request = pending.request.id,
            trace = pending.trace.id(),
            reason,
            "request failed"
        );
        reply(vec![pending], vec![Answer::Failed(reason.to_owned())]);
    }
}

/// A caller that has gone meanwhile asks again with the same id.
fn reply(part: Vec<Pending>, answers: Vec<Answer>) {
    for (pending, answer) in part.into_iter().zip(answers) {
        let _gone = pending.reply.send(answer);
    }
}
