//! One client of the closed loop: it places an order, waits for the end of its saga, and places the next one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::order_call::{Ending, OrderCall};
use super::outcome::{Outcome, Phase, Window};
use super::products::Orders;

const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Places orders until the window stops. Measures orders that end in the measured phase.
pub(super) async fn run(address: String, mut orders: Orders, window: Arc<Window>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut call = OrderCall::default();
    while !window.is(Phase::Stop) {
        let (product, stocked) = orders.next();
        let began = Instant::now();
        let ending = call.place(&address, product).await;
        let measured = window.is(Phase::Measure);
        outcome.ended += u64::from(measured && ending.is_end());
        outcome.note(ending, stocked, measured.then(|| began.elapsed()));
        if ending == Ending::Refused {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
    outcome
}
