//! Clients that place orders at an even rate. Each order is sent under one id, to one host after the other,
//! until a host accepts it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinSet;
use uuid::{Builder, Uuid};

use crate::sample::Sample;
use saga_testkit::caller::Request;
use saga_testkit::connection::{Answer, Connection};

const RETRY: Duration = Duration::from_millis(50);
/// Longer than the wait that half of the orders ask for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const QTY_MAX: usize = 3;

/// The orders to place.
pub(super) struct Plan {
    /// The service routes of the hosts. All hosts serve the same routes.
    pub(super) addresses: Vec<String>,
    pub(super) products: Vec<i64>,
    pub(super) orders: usize,
    /// The time over which the orders are spread.
    pub(super) over: Duration,
    pub(super) seed: u64,
}

/// An order that a host accepted.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) id: Uuid,
    pub(super) product: i64,
    pub(super) qty: i64,
    /// Whether the request waited for the end of the saga.
    pub(super) waited: bool,
    /// The body of the 201.
    pub(super) body: String,
}

/// The state that all clients share.
pub(super) struct Orders {
    plan: Plan,
    start: Instant,
    deadline: Mutex<Instant>,
    taken: AtomicUsize,
    failed_attempts: AtomicUsize,
    given_up: AtomicBool,
    accepted: AtomicUsize,
    placed: Mutex<Vec<Placed>>,
    refused: Mutex<Vec<String>>,
}

impl Orders {
    /// The orders before a client starts. The clients give up at `deadline`.
    pub(super) fn new(plan: Plan, deadline: Instant) -> Self {
        Self {
            plan,
            start: Instant::now(),
            deadline: Mutex::new(deadline),
            taken: AtomicUsize::new(0),
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
        self.plan.orders
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
    }

    /// Moves the deadline.
    pub(super) fn accept_within(&self, limit: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + limit;
    }

    /// Whether no more orders will be accepted.
    pub(super) fn over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || Instant::now() > *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
            || self.accepted() == self.planned()
    }

    pub(super) fn placed(&self) -> Result<Vec<Placed>> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(!placed.is_empty(), "no order was accepted");
        Ok(placed)
    }

    /// Fails unless every order was accepted.
    pub(super) fn complete(&self) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = refused.first() {
            bail!("{} refused, the first: {first}", refused.len());
        }
        let missing = self.planned().saturating_sub(self.accepted());
        ensure!(missing == 0, "{missing} were never answered by 201");
        Ok(())
    }

    /// The order with this number. What it asks for depends only on the seed.
    fn order(&self, number: usize) -> Placed {
        let mut sample = Sample::new(self.plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let id = u128::from(sample.draw()) << 64 | u128::from(sample.draw());
        Placed {
            id: Builder::from_random_bytes(id.to_be_bytes()).into_uuid(),
            product: self.plan.products[sample.below(self.plan.products.len())],
            qty: 1 + sample.below(QTY_MAX) as i64,
            waited: sample.below(2) == 0,
            body: String::new(),
        }
    }

    /// The earliest time at which the order with this number is placed.
    fn due(&self, number: usize) -> Instant {
        let share = number as f64 / self.plan.orders.max(1) as f64;
        self.start + self.plan.over.mul_f64(share)
    }

    fn accept(&self, order: Placed) {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }
}

/// A host as one client uses it.
struct Host {
    address: String,
    connection: Option<Connection>,
}

/// One client: places the next order until none is left.
async fn client(orders: Arc<Orders>) {
    let addresses = orders.plan.addresses.iter();
    let mut hosts: Vec<Host> =
        addresses.map(|address| Host { address: address.clone(), connection: None }).collect();
    loop {
        let number = orders.taken.fetch_add(1, Ordering::Relaxed);
        if number >= orders.plan.orders || orders.over() {
            return;
        }
        tokio::time::sleep_until(orders.due(number).into()).await;
        let first = number % hosts.len();
        hosts.rotate_left(first);
        place(&orders, &mut hosts, orders.order(number)).await;
    }
}

async fn place(orders: &Orders, hosts: &mut [Host], mut order: Placed) {
    let request = request(&order);
    while !orders.over() {
        match hosts[0].attempt(&request).await {
            Some(answer) if answer.status == 201 => {
                order.body = String::from_utf8_lossy(&answer.body).into_owned();
                return orders.accept(order);
            }
            Some(answer) if answer.status < 500 => {
                let body = String::from_utf8_lossy(&answer.body);
                let reason = format!("{} {}: {body}", answer.status, order.id);
                orders.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
                return;
            }
            _ => {
                orders.failed_attempts.fetch_add(1, Ordering::Relaxed);
                hosts.rotate_left(1);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The request that places an order, with or without waiting for its end.
pub(super) fn request(order: &Placed) -> Request {
    let body =
        format!(r#"{{"orderId":"{}","productId":{},"orderQty":{}}}"#, order.id, order.product, order.qty);
    let request = Request::post("/orders", body);
    if order.waited { request.header("Prefer", "wait=3") } else { request }
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

    use super::{Orders, Plan};

    fn orders(seed: u64) -> Orders {
        let plan = Plan {
            addresses: vec!["h:1".to_owned()],
            products: vec![3, 4],
            orders: 100,
            over: Duration::from_secs(10),
            seed,
        };
        Orders::new(plan, Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn an_order_depends_on_seed_and_number() {
        let (first, same, other) = (orders(7), orders(7), orders(8));
        for number in 0..100 {
            let order = first.order(number);
            assert_eq!(order.id, same.order(number).id);
            assert_ne!(order.id, other.order(number).id);
            assert_eq!(order.id.get_version_num(), 4);
            assert!([3, 4].contains(&order.product) && (1..=3).contains(&order.qty));
        }
        assert_eq!(first.due(50) - first.started(), Duration::from_secs(5));
    }

    #[test]
    fn an_order_without_an_answer_is_missing() {
        let orders = orders(1);
        assert!(!orders.over() && orders.placed().is_err());
        (0..99).for_each(|number| orders.accept(orders.order(number)));
        assert!(orders.complete().unwrap_err().to_string().starts_with("1 were never"));
        orders.accept(orders.order(99));
        assert!(orders.over() && orders.complete().is_ok());
    }
}
