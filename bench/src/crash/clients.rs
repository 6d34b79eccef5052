//! Clients that do not give up: each order is sent under one id until it is accepted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::connection::{Answer, Connection};

const RETRY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const QTY_MAX: usize = 3;

/// What is to be ordered.
pub(crate) struct Plan {
    /// Of the hosts; all of them serve the same.
    pub(crate) addresses: Vec<String>,
    pub(crate) products: Vec<i64>,
    pub(crate) orders: usize,
    pub(crate) seed: u64,
}

/// An order with a 201.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) id: Uuid,
    pub(crate) product: i64,
    pub(crate) qty: i64,
    /// Whether the answer waited for the end of the saga.
    pub(crate) waited: bool,
    /// The body of the 201.
    pub(crate) body: String,
}

/// As one client has it.
struct Host {
    address: String,
    connection: Option<Connection>,
}

/// The state that all clients share.
pub(crate) struct Flow {
    plan: Plan,
    deadline: Instant,
    begun: AtomicUsize,
    /// As planned, or fewer.
    wanted: AtomicUsize,
    open: AtomicUsize,
    failed_attempts: AtomicUsize,
    stopped: AtomicBool,
    placed: Mutex<Vec<Placed>>,
    refused: Mutex<Vec<String>>,
}

impl Flow {
    pub(crate) fn new(plan: Plan, deadline: Instant) -> Self {
        Self {
            wanted: AtomicUsize::new(plan.orders),
            plan,
            deadline,
            begun: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            failed_attempts: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            placed: Mutex::new(Vec::new()),
            refused: Mutex::new(Vec::new()),
        }
    }

    /// No further order is begun; those that are go on until a 201.
    pub(crate) fn enough(&self) {
        let begun = self.begun.fetch_add(self.plan.orders, Ordering::Relaxed);
        self.wanted.fetch_min(begun, Ordering::Relaxed);
    }

    /// Orders that must have a 201 in the end.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests without an answer at the moment.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn failed_attempts(&self) -> usize {
        self.failed_attempts.load(Ordering::Relaxed)
    }

    pub(crate) fn give_up(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Nothing will be accepted any more.
    pub(crate) fn over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
            || Instant::now() > self.deadline
            || self.accepted() == self.wanted()
    }

    pub(crate) fn placed(&self) -> Result<Vec<Placed>> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(!placed.is_empty(), "no order was accepted");
        Ok(placed)
    }

    /// Whether every order was accepted.
    pub(crate) fn complete(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = refused.first() {
            bail!("{} refused, the first: {first}", refused.len());
        }
        let accepted = self.accepted();
        let wanted = self.wanted();
        ensure!(accepted == wanted, "{} never had an answer", wanted.saturating_sub(accepted));
        Ok(())
    }
}

/// Starts so many clients.
pub(crate) fn start(flow: &Arc<Flow>, clients: usize) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for _ in 0..clients {
        running.spawn(run(Arc::clone(flow)));
    }
    running
}

/// One client: takes the next order until there is none.
async fn run(flow: Arc<Flow>) {
    let mut hosts: Vec<Host> = flow
        .plan
        .addresses
        .iter()
        .map(|address| Host { address: address.clone(), connection: None })
        .collect();
    loop {
        let number = flow.begun.fetch_add(1, Ordering::Relaxed);
        if number >= flow.plan.orders {
            return;
        }
        let mut sample = Sample::new(flow.plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let product = flow.plan.products[sample.below(flow.plan.products.len())];
        let qty = 1 + sample.below(QTY_MAX) as i64;
        let order =
            Placed { id: Uuid::new_v4(), product, qty, waited: sample.below(2) == 0, body: String::new() };
        // The hosts take turns, also after an attempt that failed.
        let first = number % hosts.len();
        hosts.rotate_left(first);
        place(&flow, &mut hosts, order).await;
    }
}

async fn place(flow: &Flow, hosts: &mut [Host], mut order: Placed) {
    let request = request(&order);
    while !flow.stopped.load(Ordering::Relaxed) && Instant::now() < flow.deadline {
        flow.open.fetch_add(1, Ordering::Relaxed);
        let answer = hosts[0].attempt(&request).await;
        flow.open.fetch_sub(1, Ordering::Relaxed);
        match answer {
            Some(answer) if answer.status == 201 => {
                order.body = String::from_utf8_lossy(&answer.body).into_owned();
                flow.placed.lock().unwrap_or_else(PoisonError::into_inner).push(order);
                return;
            }
            Some(answer) if answer.status < 500 => {
                let reason =
                    format!("{} {}: {}", answer.status, order.id, String::from_utf8_lossy(&answer.body));
                flow.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
                return;
            }
            _ => {
                flow.failed_attempts.fetch_add(1, Ordering::Relaxed);
                hosts.rotate_left(1);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The request that places an order, with or without waiting for its end.
pub(crate) fn request(order: &Placed) -> Request {
    let body =
        format!(r#"{{"orderId":"{}","productId":{},"orderQty":{}}}"#, order.id, order.product, order.qty);
    let request = Request::post("/orders", body);
    if order.waited { request.header("Prefer", "wait=10") } else { request }
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
