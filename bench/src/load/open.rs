//! The open loop: orders start at a fixed rate, whether or not earlier ones have ended, and a latency counts
//! from when its order was meant to start (no coordinated omission: Gil Tene, "How NOT to Measure Latency").
//!
//! ```text
//!  clock (a thread: it sleeps to within 0.1 ms) ─▶ start ─▶ one task per order in flight, with a connection
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::order_call::{Ending, OrderCall};
use super::outcome::{Outcome, Phase, Window};
use super::products::Orders;
use super::schedule::Schedule;

/// When the measurement ends, an order that has waited for longer than this is not started.
const GRACE: Duration = Duration::from_millis(100);

/// The orders to offer.
pub(super) struct Offer {
    pub(super) address: String,
    pub(super) schedule: Schedule,
    pub(super) in_flight_max: usize,
    pub(super) began: Instant,
}

struct Shared {
    offer: Offer,
    window: Arc<Window>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    idle: Vec<OrderCall>,
    in_flight: usize,
}

/// Offers the whole schedule and waits until every order that was started has its answer.
pub(super) async fn run(offer: Offer, mut orders: Orders, window: Arc<Window>) -> Outcome {
    let (sender, mut due) = unbounded_channel();
    let (schedule, began) = (offer.schedule, offer.began);
    // The task ends with the schedule.
    std::thread::spawn(move || start_on_time(schedule, began, &sender));
    let places = Arc::new(Semaphore::new(offer.in_flight_max));
    let shared = Arc::new(Shared { offer, window, state: Mutex::default() });
    let mut running = JoinSet::new();
    let mut full_until = began;
    while let Some(meant) = due.recv().await {
        if shared.window.is(Phase::Stop) && meant.elapsed() > GRACE {
            give_up(&shared, meant, &mut due);
            break;
        }
        let place = if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            place
        } else {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            full_until = Instant::now();
            place
        };
        shared.state().outcome.backlog.late += u64::from(meant < full_until);
        let (product, stocked) = orders.next();
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            shared.order(product, stocked, meant).await;
            drop(place);
        });
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
    std::mem::take(&mut shared.state().outcome)
}

/// Sends each order when it is due, never earlier. The schedule bounds the channel.
fn start_on_time(schedule: Schedule, began: Instant, due: &UnboundedSender<Instant>) {
    for start in schedule.starts() {
        let meant = began + start;
        std::thread::sleep(meant.saturating_duration_since(Instant::now()));
        if due.send(meant).is_err() {
            return;
        }
    }
}

fn give_up(shared: &Shared, first: Instant, due: &mut UnboundedReceiver<Instant>) {
    let mut state = shared.state();
    let mut meant = Some(first);
    while let Some(at) = meant {
        if shared.measures(at) {
            state.outcome.backlog.not_started += 1;
            state.outcome.latencies.add(at.elapsed());
        }
        meant = due.try_recv().ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measures(&self, meant: Instant) -> bool {
        self.offer.schedule.measures(meant.saturating_duration_since(self.offer.began))
    }

    async fn order(&self, product: i64, stocked: bool, meant: Instant) {
        let mut call = self.begin();
        let ending = call.place(&self.offer.address, product).await;
        let latency = self.measures(meant).then(|| meant.elapsed());
        let mut state = self.state();
        state.outcome.ended += u64::from(self.window.is(Phase::Measure) && ending.is_end());
        state.outcome.note(ending, stocked, latency);
        state.in_flight -= 1;
        if ending != Ending::Refused {
            state.idle.push(call);
        }
    }

    fn begin(&self) -> OrderCall {
        let mut state = self.state();
        state.in_flight += 1;
        let in_flight = state.in_flight;
        let peak = &mut state.outcome.backlog.in_flight_peak;
        *peak = (*peak).max(in_flight);
        state.idle.pop().unwrap_or_default()
    }
}
