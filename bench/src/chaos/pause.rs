//! How long no order is accepted: the effect of a fault on clients.

use std::future::Future;
use std::time::{Duration, Instant};

use super::orders::Orders;

const POLL: Duration = Duration::from_millis(1);
/// How long a pause is measured when it continues after the work.
const FOLLOWED: Duration = Duration::from_secs(15);

/// Does some work. Also returns the longest time between two accepted orders that overlaps with the work.
pub(super) async fn longest<T>(orders: &Orders, work: impl Future<Output = T>) -> (T, Duration) {
    tokio::pin!(work);
    let mut pause = Pause::new(orders.accepted());
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(POLL) => pause.observe(orders),
        }
    };
    let (ended, accepted) = (Instant::now(), orders.accepted());
    while orders.accepted() == accepted && !orders.over() && ended.elapsed() < FOLLOWED {
        tokio::time::sleep(POLL).await;
    }
    pause.observe(orders);
    (done, pause.longest)
}

struct Pause {
    accepted: usize,
    since: Instant,
    longest: Duration,
}

impl Pause {
    fn new(accepted: usize) -> Self {
        Self { accepted, since: Instant::now(), longest: Duration::ZERO }
    }

    fn observe(&mut self, orders: &Orders) {
        let (now, accepted) = (Instant::now(), orders.accepted());
        if orders.over() && accepted == self.accepted {
            return;
        }
        self.longest = self.longest.max(now.duration_since(self.since));
        if accepted != self.accepted {
            (self.accepted, self.since) = (accepted, now);
        }
    }
}
