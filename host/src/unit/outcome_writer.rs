//! Writes down what becomes of each delivery: handled, ignored, parked or queued.

use super::{
    admit::{Admission, Disposition, Parking, Work},
    rows::{IgnoredRow, ParkedRetryRow, ParkedRow},
    writes::UnitWrites,
};
use crate::model::{
    delivery::{Delivery, Origin},
    fault::{ParkedUntil, retry_after_ms, suspect_retry_after_ms},
    outcome::Outcome,
};

const QUEUED_REASON: &str = "an earlier delivery of its key is parked";

/// Of one unit.
pub(super) struct OutcomeWriter<'a> {
    pub(super) plugin: &'a str,
    pub(super) writes: &'a mut UnitWrites,
    pub(super) admission: &'a mut Admission,
    pub(super) attempts_max: u32,
}

impl OutcomeWriter<'_> {
    /// The outcome that the plugin returned for a delivery.
    pub(super) fn handled(&mut self, delivery: &Delivery, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.remove_origin(delivery),
            Outcome::Ignored(reason) => {
                self.remove_origin(delivery);
                self.writes.ignore(IgnoredRow {
                    source: delivery.origin.to_string(),
                    key: delivery.correlation.clone(),
                    reason: reason.clone(),
                });
            }
            Outcome::Retry { after_ms, reason } => {
                let until = ParkedUntil::RetryAfterMs(*after_ms);
                self.park(delivery, &Parking { reason: reason.clone(), until });
            }
            Outcome::Reject(reason) => {
                let until = ParkedUntil::Redriven;
                self.park(delivery, &Parking { reason: reason.clone(), until });
            }
        }
    }

    /// Whether a delivery that the plugin did not get was parked or queued.
    pub(super) fn not_handled(&mut self, disposition: Disposition, item: &Work) -> bool {
        match (disposition, &item.parking) {
            (Disposition::Park, Some(parking)) => self.park(&item.delivery, parking),
            // Attempts of 0: it was never tried, and its turn comes when it is the first of its key.
            (Disposition::Queue, _) => self.park_new(&item.delivery, QUEUED_REASON, 0, None),
            _ => return false,
        }
        true
    }

    /// A parked delivery or a timer that was handled must not come again.
    fn remove_origin(&mut self, delivery: &Delivery) {
        if let Some(id) = delivery.parked_id {
            self.writes.parked_removed.push(id);
            if let (Some(key), Some(advance)) = (&delivery.correlation, self.admission.advance_for(delivery))
            {
                advance.freed.push(key.clone());
            }
        } else if let Origin::Timer { name } = &delivery.origin {
            self.writes.timers_removed.push(name.clone());
        }
    }

    fn park(&mut self, delivery: &Delivery, parking: &Parking) {
        let attempt = counted_attempt(delivery, parking.until, self.attempts_max);
        let retry_after_ms = retry_after(attempt, parking.until, self.attempts_max);
        let attempts = i32::try_from(attempt).unwrap_or(i32::MAX);
        let reason = &parking.reason;
        tracing::warn!(
            plugin = self.plugin,
            source = %delivery.origin,
            attempt,
            trace = delivery.trace.id(),
            retry_ms = retry_after_ms,
            reason,
            "delivery parked"
        );
        match delivery.parked_id {
            Some(id) => {
                let reason = reason.clone();
                self.writes.park_again(ParkedRetryRow { id, reason, attempts, retry_after_ms });
            }
            None => self.park_new(delivery, reason, attempts, retry_after_ms),
        }
    }

    fn park_new(&mut self, delivery: &Delivery, reason: &str, attempts: i32, retry_after_ms: Option<i64>) {
        let (topic, partition, position) = match &delivery.origin {
            Origin::Kafka { topic, partition, offset } => (topic.to_string(), *partition, *offset),
            Origin::Timer { name } => {
                self.writes.timers_removed.push(name.clone());
                (format!("timer/{name}"), -1, 0)
            }
            // The deadline stays in the row of its saga.
            Origin::Deadline { .. } => return,
        };
        let key = delivery.correlation.clone();
        if let (Some(key), Some(advance)) = (&key, self.admission.advance_for(delivery)) {
            advance.parked.push(key.clone());
        }
        let body = delivery.encode_as(self.writes.format);
        let reason = reason.to_owned();
        self.writes.park(ParkedRow {
            topic,
            partition,
            position,
            key,
            body,
            reason,
            attempts,
            retry_after_ms,
        });
    }
}

/// A delivery that only waits for its version counts one attempt at the most: with none it would pass for a
/// queued one. A suspect always has an attempt left: whoever locked its row has not used them up.
fn counted_attempt(delivery: &Delivery, until: ParkedUntil, attempts_max: u32) -> u32 {
    match until {
        ParkedUntil::VersionRetryMs(_) => delivery.attempt.saturating_sub(1).max(1),
        ParkedUntil::Suspected => delivery.attempt.min(attempts_max.saturating_sub(1)).max(1),
        _ => delivery.attempt,
    }
}

/// Milliseconds until the next attempt; none when a person must redrive it.
fn retry_after(attempt: u32, until: ParkedUntil, attempts_max: u32) -> Option<i64> {
    match until {
        ParkedUntil::Backoff => retry_after_ms(attempt, attempts_max),
        ParkedUntil::RetryAfterMs(ms) => (attempt < attempts_max).then_some(i64::from(ms)),
        ParkedUntil::VersionRetryMs(ms) => Some(i64::from(ms)),
        ParkedUntil::Suspected => Some(suspect_retry_after_ms(attempt)),
        ParkedUntil::Redriven => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ParkedUntil, retry_after};

    #[test]
    fn what_ends_parking() {
        use ParkedUntil::{Backoff, Redriven, RetryAfterMs, Suspected, VersionRetryMs};
        for (attempt, until, expected) in [
            (1, Backoff, Some(1_000)),
            (5, Backoff, None),
            (1, RetryAfterMs(70), Some(70)),
            (5, RetryAfterMs(70), None),
            (9, VersionRetryMs(30), Some(30)),
            (9, Suspected, Some(30_000)),
            (1, Redriven, None),
        ] {
            assert_eq!(retry_after(attempt, until, 5), expected, "{attempt} {until:?}");
        }
    }
}
