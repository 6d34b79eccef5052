//! Clients that do not give up: each order is sent under one id until it is accepted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use uuid::Uuid;

use crate::caller::Request;
use crate::connection::{Answer, Connection};
use crate::sample::Sample;

const RETRY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const QTY_MAX: usize = 3;

/// What is to be ordered.
pub(super) struct Plan {
    pub(super) address: String,
    pub(super) products: Vec<i64>,
    pub(super) orders: usize,
    pub(super) seed: u64,
}

/// An order with a 201.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) id: Uuid,
    pub(super) product: i64,
    pub(super) qty: i64,
    /// Whether the answer waited for the end of the saga.
    pub(super) waited: bool,
    /// The body of the 201.
    pub(super) body: String,
}

/// The state that all clients share.
pub(super) struct Flow {
    plan: Plan,
    deadline: Instant,
    begun: AtomicUsize,
    open: AtomicUsize,
    failed_attempts: AtomicUsize,
    stopped: AtomicBool,
    placed: Mutex<Vec<Placed>>,
    refused: Mutex<Vec<String>>,
}

impl Flow {
    pub(super) fn new(plan: Plan, deadline: Instant) -> Self {
        Self {
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

    pub(super) fn accepted(&self) -> usize {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests without an answer at the moment.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn failed_attempts(&self) -> usize {
        self.failed_attempts.load(Ordering::Relaxed)
    }

    pub(super) fn give_up(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Nothing will be accepted any more.
    pub(super) fn over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() > self.deadline || self.accepted() == self.plan.orders
    }

    pub(super) fn placed(&self) -> Result<Vec<Placed>> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(!placed.is_empty(), "no order was accepted");
        Ok(placed)
    }

    /// Whether every order was accepted.
    pub(super) fn complete(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = refused.first() {
            bail!("{} refused, the first: {first}", refused.len());
        }
        let accepted = self.accepted();
        ensure!(accepted == self.plan.orders, "{} never had an answer", self.plan.orders - accepted);
        Ok(())
    }
}

/// One client: takes the next order until there is none.
pub(super) async fn run(flow: Arc<Flow>) {
    let mut connection = None;
    loop {
        let number = flow.begun.fetch_add(1, Ordering::Relaxed);
        if number >= flow.plan.orders {
            return;
        }
        let mut sample = Sample::new(flow.plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let product = flow.plan.products[sample.below(flow.plan.products.len())];
        let qty = 1 + sample.below(QTY_MAX) as i64;
        let order = Placed { id: Uuid::new_v4(), product, qty, waited: sample.below(2) == 0, body: String::new() };
        place(&flow, &mut connection, order).await;
    }
}

async fn place(flow: &Flow, connection: &mut Option<Connection>, mut order: Placed) {
    let request = request(&order).encode(&flow.plan.address);
    while !flow.stopped.load(Ordering::Relaxed) && Instant::now() < flow.deadline {
        flow.open.fetch_add(1, Ordering::Relaxed);
        let answer = attempt(connection, &flow.plan.address, &request).await;
        flow.open.fetch_sub(1, Ordering::Relaxed);
        match answer {
            Some(answer) if answer.status == 201 => {
                order.body = String::from_utf8_lossy(&answer.body).into_owned();
                flow.placed.lock().unwrap_or_else(PoisonError::into_inner).push(order);
                return;
            }
            Some(answer) if answer.status < 500 => {
                let reason = format!("{} {}: {}", answer.status, order.id, String::from_utf8_lossy(&answer.body));
                flow.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
                return;
            }
            _ => {
                flow.failed_attempts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The request that places an order, with or without waiting for its end.
pub(super) fn request(order: &Placed) -> Request {
    let body = format!(r#"{{"orderId":"{}","productId":{},"orderQty":{}}}"#, order.id, order.product, order.qty);
    let request = Request::post("/orders", body);
    if order.waited { request.header("Prefer", "wait=10") } else { request }
}

async fn attempt(connection: &mut Option<Connection>, address: &str, request: &[u8]) -> Option<Answer> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address).await.ok()?,
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, open.exchange(request, false)).await.ok()?.ok()?;
    *connection = Some(open);
    Some(answer)
}
