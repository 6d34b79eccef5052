//! Clients that send the requests of the load at an even rate. Each request is sent under one id, to one host
//! after the other, until a host accepts it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Builder;

use super::description::Load;
use super::recovery::Timing;
use super::template::{Source, draw};
use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::connection::{Answer, Connection};

const RETRY: Duration = Duration::from_millis(50);
/// Longer than any wait that a request asks for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The requests to send.
pub(super) struct Plan {
    pub(super) load: Load,
    pub(super) source: Source,
    /// The service routes of the hosts. All hosts serve the same routes.
    pub(super) addresses: Vec<String>,
    pub(super) count: usize,
    /// The time over which the requests are spread.
    pub(super) over: Duration,
    pub(super) seed: u64,
}

/// A request that a host accepted.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// Its number in the plan.
    pub(super) number: usize,
    /// The id that the answer names, or that it was sent under.
    pub(super) id: String,
    /// Its values.
    pub(super) asked: Map<String, Value>,
    pub(super) answer: Value,
    pub(super) timing: Timing,
}

/// The state that all clients share.
pub(super) struct Calls {
    plan: Plan,
    start: Instant,
    deadline: Mutex<Instant>,
    held: watch::Sender<bool>,
    taken: AtomicUsize,
    /// Requests that are being sent.
    sending: AtomicUsize,
    failed_attempts: AtomicUsize,
    given_up: AtomicBool,
    accepted: AtomicUsize,
    placed: Mutex<Vec<Placed>>,
    refused: Mutex<Vec<String>>,
}

impl Calls {
    /// The requests before a client starts. The clients give up at `deadline`.
    pub(super) fn new(plan: Plan, deadline: Instant) -> Self {
        Self {
            plan,
            start: Instant::now(),
            deadline: Mutex::new(deadline),
            held: watch::Sender::new(false),
            taken: AtomicUsize::new(0),
            sending: AtomicUsize::new(0),
            failed_attempts: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            placed: Mutex::new(Vec::new()),
            refused: Mutex::new(Vec::new()),
        }
    }

    /// Starts this many clients.
    pub(super) fn start(self: &Arc<Self>, clients: u16) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for _ in 0..clients {
            running.spawn(client(Arc::clone(self)));
        }
        running
    }

    /// When the clients started.
    pub(super) fn started(&self) -> Instant {
        self.start
    }

    pub(super) fn planned(&self) -> usize {
        self.plan.count
    }

    /// What values are drawn from.
    pub(super) fn source(&self) -> &Source {
        &self.plan.source
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests without an answer, and answers of 500 and above.
    pub(super) fn failed_attempts(&self) -> usize {
        self.failed_attempts.load(Ordering::Relaxed)
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.held.send_replace(false);
    }

    /// Lets no client send another request, and waits until those that were sent are accepted.
    ///
    /// # Errors
    /// They were not within `limit`.
    pub(super) async fn hold(&self, limit: Duration) -> Result<()> {
        self.held.send_replace(true);
        let began = Instant::now();
        while self.sending.load(Ordering::Acquire) > 0 {
            ensure!(began.elapsed() < limit, "requests are not accepted within {} s", limit.as_secs());
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// Ends [`Calls::hold`].
    pub(super) fn go_on(&self) {
        self.held.send_replace(false);
    }

    /// Moves the deadline.
    pub(super) fn accept_within(&self, limit: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + limit;
    }

    /// Whether no more requests will be accepted.
    pub(super) fn over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || Instant::now() > *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
            || self.accepted() == self.planned()
    }

    /// What was accepted so far.
    pub(super) fn placed(&self) -> Vec<Placed> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The timings of what was accepted so far.
    pub(super) fn timings(&self) -> Vec<Timing> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.iter().map(|placed| placed.timing).collect()
    }

    /// Fails unless every request was accepted.
    pub(super) fn complete(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = refused.first() {
            bail!("{} refused, the first: {first}", refused.len());
        }
        let missing = self.planned().saturating_sub(self.accepted());
        ensure!(missing == 0, "{missing} were never answered by {}", self.plan.load.success);
        Ok(())
    }

    /// The values of the request with this number, `id` among them. They depend only on the seed.
    fn values(&self, number: usize) -> Result<Map<String, Value>> {
        let mut sample = Sample::new(self.plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let id = u128::from(sample.draw()) << 64 | u128::from(sample.draw());
        let id = Builder::from_random_bytes(id.to_be_bytes()).into_uuid();
        let mut values = draw(&self.plan.load.values, &self.plan.source, &mut sample)?;
        values.insert("id".to_owned(), id.to_string().into());
        Ok(values)
    }

    fn waits(&self, number: usize) -> bool {
        !self.plan.load.waiting.is_empty() && (number / self.plan.load.send.len()).is_multiple_of(2)
    }

    /// The request with this number, with or without waiting for the end of its saga.
    pub(super) fn request(&self, number: usize, waits: bool) -> Result<(Map<String, Value>, Request)> {
        let (load, values) = (&self.plan.load, self.values(number)?);
        let request = load.send[number % load.send.len()].request(&values);
        let waiting = load.waiting.iter().filter(|_| waits);
        Ok((values, waiting.fold(request, |request, (name, value)| request.header(name, value.clone()))))
    }

    /// The earliest time at which the request with this number is sent.
    fn due(&self, number: usize) -> Instant {
        let share = number as f64 / self.plan.count.max(1) as f64;
        self.start + self.plan.over.mul_f64(share)
    }

    fn accept(&self, placed: Placed) {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).push(placed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn refuse(&self, reason: String) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
    }

    /// The request as it was accepted.
    fn accepted_as(&self, number: usize, asked: Map<String, Value>, body: &[u8], sent: Instant) -> Placed {
        let load = &self.plan.load;
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let sent_under = || asked.get("id").cloned();
        let id = load.id.as_ref().and_then(|place| answer.pointer(place).cloned()).or_else(sent_under);
        let ended = load.ended.as_ref().filter(|_| self.waits(number));
        let timing = Timing {
            sent: sent - self.start,
            accepted: self.start.elapsed(),
            ended: ended.map(|place| answer.pointer(place).is_some()),
        };
        let id = id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).unwrap_or_default();
        Placed { number, id, asked, answer, timing }
    }
}

/// A host as one client uses it.
struct Host {
    address: String,
    connection: Option<Connection>,
}

/// One client: sends the next request until none is left.
async fn client(calls: Arc<Calls>) {
    let addresses = calls.plan.addresses.iter();
    let mut hosts: Vec<Host> =
        addresses.map(|address| Host { address: address.clone(), connection: None }).collect();
    let mut held = calls.held.subscribe();
    loop {
        let number = calls.taken.fetch_add(1, Ordering::Relaxed);
        if number >= calls.plan.count || calls.over() {
            return;
        }
        tokio::time::sleep_until(calls.due(number).into()).await;
        // The sender lives as long as `calls`.
        let _ = held.wait_for(|held| !held).await;
        calls.sending.fetch_add(1, Ordering::Release);
        let first = number % hosts.len();
        hosts.rotate_left(first);
        place(&calls, &mut hosts, number).await;
        calls.sending.fetch_sub(1, Ordering::Release);
    }
}

async fn place(calls: &Calls, hosts: &mut [Host], number: usize) {
    let (asked, request) = match calls.request(number, calls.waits(number)) {
        Ok(request) => request,
        Err(error) => return calls.refuse(format!("{error:#}")),
    };
    let sent = Instant::now();
    while !calls.over() {
        match hosts[0].attempt(&request).await {
            Some(answer) if answer.status == calls.plan.load.success => {
                return calls.accept(calls.accepted_as(number, asked, &answer.body, sent));
            }
            Some(answer) if answer.status < 500 => {
                let body = String::from_utf8_lossy(&answer.body);
                return calls.refuse(format!("{} {}: {body}", answer.status, Value::Object(asked)));
            }
            _ => {
                calls.failed_attempts.fetch_add(1, Ordering::Relaxed);
                hosts.rotate_left(1);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

impl Host {
    async fn attempt(&mut self, request: &Request) -> Option<Answer> {
        let mut open = match self.connection.take() {
            Some(open) => open,
            None => Connection::open(&self.address).await.ok()?,
        };
        let request = request.encode(&self.address);
        let answer = tokio::time::timeout(ANSWER_WITHIN, open.exchange(&request, false)).await.ok()?.ok()?;
        self.connection = Some(open);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::{Calls, Plan, Source};
    use crate::chaos::description::System;

    fn calls(seed: u64) -> Calls {
        let mut source = Source::default();
        source.kept.insert("product".to_owned(), vec![json!(3), json!(4)]);
        let plan = Plan {
            load: System::read("order").unwrap().load,
            source,
            addresses: vec!["h:1".to_owned()],
            count: 100,
            over: Duration::from_secs(10),
            seed,
        };
        Calls::new(plan, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_request_depends_on_seed_and_number() {
        let (first, same, other) = (calls(7), calls(7), calls(8));
        for number in 0..100 {
            let values = first.values(number).unwrap();
            assert_eq!(values, same.values(number).unwrap());
            assert_ne!(values["id"], other.values(number).unwrap()["id"]);
            assert!([3, 4].contains(&values["product"].as_i64().unwrap()));
            assert!((1..=3).contains(&values["qty"].as_i64().unwrap()));
        }
        assert_eq!(first.due(50) - first.started(), Duration::from_secs(5));
    }

    #[test]
    fn forms_and_waiting_alternate() {
        let calls = calls(1);
        let text = |number: usize| {
            let (_, request) = calls.request(number, calls.waits(number)).unwrap();
            let text = String::from_utf8(request.encode("h:1")).unwrap();
            (text.contains("orderId"), text.contains("Idempotency-Key"), text.contains("Prefer: wait=3"))
        };
        let expected = [(true, false, true), (false, true, true), (true, false, false), (false, true, false)];
        assert_eq!([0, 1, 2, 3].map(text), expected);
    }

    #[test]
    fn a_request_without_an_answer_is_missing() {
        let calls = calls(1);
        let accept = |number: usize| {
            let values = calls.values(number).unwrap();
            let answer = br#"{"orderId":"o-1","orderStatus":"CONFIRMED"}"#;
            let placed = calls.accepted_as(number, values, answer, Instant::now());
            assert_eq!(
                (placed.id.as_str(), placed.timing.ended),
                ("o-1", calls.waits(number).then_some(true))
            );
            calls.accept(placed);
        };
        assert!(!calls.over() && calls.placed().is_empty());
        (0..99).for_each(accept);
        assert!(calls.complete().unwrap_err().to_string().starts_with("1 were never"));
        accept(99);
        assert!(calls.over() && calls.complete().is_ok());
    }
}
