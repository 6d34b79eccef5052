//! What a fault does to the clients: how long no request is accepted, how long until requests end as fast as
//! before, and the latencies around it. Pure.

use std::time::Duration;

use serde::Serialize;

use crate::latency::{Latencies, Summary};

/// A request that took longer was disturbed.
const DISTURBED: Duration = Duration::from_secs(1);
/// The time before a fault with which it is compared.
const BEFORE: Duration = Duration::from_secs(5);

/// When a request was sent for the first time and accepted, from the start of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) sent: Duration,
    pub(super) accepted: Duration,
    /// Whether the saga had ended by then; none for a request that did not wait for it.
    pub(super) ended: Option<bool>,
}

/// The effect of one fault.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Effect {
    /// The longest time without an accepted request.
    pub(super) pause_ms: u64,
    /// From the fault to the last request that it has disturbed: one that took longer than a second, or whose
    /// saga did not end while it waited. 0 when none was disturbed.
    pub(super) recovered_ms: u64,
    /// Latencies of the requests that waited for the end of their saga, in the 5 s before.
    pub(super) before: Summary,
    /// The same from the fault until it had healed.
    pub(super) during: Summary,
}

/// The effect of a fault that was injected at `at` and had healed at `healed`. Requests that were sent after
/// `until` belong to the next fault.
pub(super) fn effect(timings: &[Timing], at: Duration, healed: Duration, until: Duration) -> Effect {
    let sent_within = |from: Duration, to: Duration| {
        timings.iter().filter(move |timing| timing.sent >= from && timing.sent < to)
    };
    let in_flight = timings.iter().filter(|timing| timing.sent < at && timing.accepted > at);
    let disturbed = in_flight.chain(sent_within(at, until)).filter(|timing| {
        timing.ended == Some(false) || timing.accepted.saturating_sub(timing.sent) > DISTURBED
    });
    let recovered = disturbed.map(|timing| timing.accepted.saturating_sub(at)).max().unwrap_or_default();
    let latencies = |from, to| {
        let mut latencies = Latencies::default();
        for timing in sent_within(from, to).filter(|timing| timing.ended.is_some()) {
            latencies.add(timing.accepted.saturating_sub(timing.sent));
        }
        latencies.summary()
    };
    Effect {
        pause_ms: millis(longest_pause(timings, at, healed)),
        recovered_ms: millis(recovered),
        before: latencies(at.saturating_sub(BEFORE), at),
        during: latencies(at, healed),
    }
}

/// The longest time between two accepted requests that overlaps with `from` to `to`.
pub(super) fn longest_pause(timings: &[Timing], from: Duration, to: Duration) -> Duration {
    let mut accepted: Vec<Duration> = timings.iter().map(|timing| timing.accepted).collect();
    accepted.sort_unstable();
    let overlapping = accepted.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    overlapping.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Timing, effect};

    fn timing(sent: u64, accepted: u64, ended: Option<bool>) -> Timing {
        Timing { sent: Duration::from_millis(sent), accepted: Duration::from_millis(accepted), ended }
    }

    /// A request every 100 ms that takes 10 ms, those from `from` to `to` as `change` says.
    fn timings(from: u64, to: u64, change: impl Fn(u64) -> Timing) -> Vec<Timing> {
        let usual = |at: u64| timing(at, at + 10, Some(true));
        (0..200)
            .map(|n| n * 100)
            .map(|at| if (from..to).contains(&at) { change(at) } else { usual(at) })
            .collect()
    }

    #[test]
    fn the_effect_of_a_fault() {
        let ms = Duration::from_millis;
        let of = |timings: &[Timing]| {
            let effect = effect(timings, ms(10_000), ms(12_000), ms(16_000));
            (effect.pause_ms, effect.recovered_ms, effect.before.max_ms, effect.during.max_ms)
        };
        assert_eq!(of(&timings(0, 0, |at| timing(at, at, None))), (100, 0, 10.0, 10.0), "no effect");
        let late = timings(10_000, 13_000, |at| timing(at, 13_500, Some(true)));
        assert_eq!(of(&late), (3_100, 3_500, 10.0, 3_500.0), "accepted late");
        let unended = timings(10_000, 13_000, |at| timing(at, at + 500, Some(false)));
        assert_eq!(of(&unended).1, 3_400, "accepted soon, but the sagas do not end");
        let in_flight = timings(9_500, 9_600, |at| timing(at, 11_000, None));
        assert_eq!(of(&in_flight).1, 1_000, "sent before the fault");
        let next = timings(17_000, 18_000, |at| timing(at, at + 5_000, None));
        assert_eq!(of(&next).1, 0, "the next fault's");
    }
}
