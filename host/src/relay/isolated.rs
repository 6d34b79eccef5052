//! Partitions that have not accepted a batch. Their records are sent one at a time, so that Kafka judges each
//! alone, while all other partitions continue in batches. Pure bookkeeping: no database, no Kafka.
//!
//! ```text
//!  batch refused ──▶ one record ──▶ acknowledged ── the next ──▶ … the last suspect ──▶ batches again
//!                        │
//!                        ├─ refused for good: parked, then the next
//!                        ├─ timestamp refused: once more, with the present time
//!                        └─ passing error: the same again, after a growing pause
//! ```
//!
//! The order of the partition is kept: one record at a time, the lowest first.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{in_flight::Place, refusal::Refusal};

/// Pause after a passing error, doubled with each further one.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause, so the longest time that a mended topic waits for its records.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A partition that fails again within this time is isolated for longer than its suspects take: each failed
/// batch costs a new Kafka client.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// How long it is isolated at least when it fails for the second time; doubled with each further time.
const ISOLATION_MIN: Duration = Duration::from_secs(2);
const ISOLATION_MAX: Duration = Duration::from_secs(300);

/// One partition.
#[derive(Debug)]
struct IsolatedPlace {
    place: Place,
    /// Positions of records.
    waiting: BTreeSet<i64>,
    sending: Option<i64>,
    /// Whether the record that is sent next is sent with the present time.
    with_present_time: bool,
    /// The highest record of a batch that was refused.
    suspect_up_to: i64,
    /// A passing error, since when.
    passing: Option<(String, Instant)>,
    retry_pause: Duration,
    retry_at: Instant,
    isolation: Duration,
    until: Instant,
    /// None while it is isolated.
    released_at: Option<Instant>,
}

/// A record to send alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alone {
    pub(super) place: Place,
    pub(super) position: i64,
    /// Whether Kafka has refused its own timestamp.
    pub(super) with_present_time: bool,
}

/// What becomes of a record that was sent alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Acknowledged,
    /// Refused for good.
    Park,
    /// Sent again later.
    Retry,
}

/// A partition that waits, for `readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) place: Place,
    pub(super) reason: String,
    pub(super) since: Instant,
    pub(super) records: usize,
}

/// The isolated partitions, and those that were isolated not long ago.
#[derive(Debug, Default)]
pub(super) struct Isolated(Vec<IsolatedPlace>);

impl Isolated {
    fn find(&mut self, topic: &str, partition: i32) -> Option<&mut IsolatedPlace> {
        self.0.iter_mut().find(|isolated| isolated.place.0 == topic && isolated.place.1 == partition)
    }

    /// Isolates a partition that has refused a batch, up to its highest record. `passing` is the reason when
    /// nothing is wrong with the records.
    pub(super) fn isolate(
        &mut self,
        place: Place,
        suspect_up_to: i64,
        passing: Option<String>,
        now: Instant,
    ) {
        self.0.retain(|isolated| isolated.released_at.is_none_or(|at| now < at + AGAIN_WITHIN));
        let passing = passing.map(|reason| (reason, now));
        let retry_at = if passing.is_some() { now + RETRY_PAUSE_MIN } else { now };
        let Some(isolated) = self.find(&place.0, place.1) else {
            self.0.push(IsolatedPlace {
                place,
                waiting: BTreeSet::new(),
                sending: None,
                with_present_time: false,
                suspect_up_to,
                passing,
                retry_pause: RETRY_PAUSE_MIN,
                retry_at,
                isolation: ISOLATION_MIN,
                until: now,
                released_at: None,
            });
            return;
        };
        if isolated.released_at.take().is_some() {
            isolated.until = now + isolated.isolation;
            isolated.isolation = (isolated.isolation * 2).min(ISOLATION_MAX);
            isolated.retry_at = retry_at;
        }
        isolated.suspect_up_to = isolated.suspect_up_to.max(suspect_up_to);
        isolated.passing = isolated.passing.take().or(passing);
    }

    /// Adds a record when its partition is isolated; false when it is not. Adding it again changes nothing.
    pub(super) fn push(&mut self, topic: &str, partition: i32, position: i64) -> bool {
        let Some(isolated) = self.find(topic, partition).filter(|isolated| isolated.released_at.is_none())
        else {
            return false;
        };
        if isolated.sending != Some(position) {
            isolated.waiting.insert(position);
        }
        true
    }

    /// Whether a partition is isolated.
    pub(super) fn contains(&self, topic: &str, partition: i32) -> bool {
        let isolated = self.0.iter().filter(|isolated| isolated.released_at.is_none());
        isolated.into_iter().any(|isolated| isolated.place.0 == topic && isolated.place.1 == partition)
    }

    /// Whether no partition is isolated.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|isolated| isolated.released_at.is_some())
    }

    /// The next record of each partition that may be sent now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Alone> {
        let due = |isolated: &mut IsolatedPlace| {
            if isolated.sending.is_some() || isolated.retry_at > now {
                return None;
            }
            let position = isolated.waiting.pop_first()?;
            isolated.sending = Some(position);
            let with_present_time = isolated.with_present_time;
            Some(Alone { place: isolated.place.clone(), position, with_present_time })
        };
        self.0.iter_mut().filter_map(due).collect()
    }

    /// Kafka has answered to the record that was sent alone.
    pub(super) fn answered(
        &mut self,
        place: &Place,
        answer: Result<(), (Refusal, String)>,
        now: Instant,
    ) -> Option<(i64, Verdict)> {
        let isolated = self.find(&place.0, place.1)?;
        let position = isolated.sending.take()?;
        let had_present_time = std::mem::take(&mut isolated.with_present_time);
        let (refusal, reason) = match answer {
            Ok(()) => {
                isolated.accepts();
                return Some((position, Verdict::Acknowledged));
            }
            Err((Refusal::OfRecord, _)) => {
                isolated.accepts();
                return Some((position, Verdict::Park));
            }
            Err(refused) => refused,
        };
        isolated.waiting.insert(position);
        match refusal {
            Refusal::OfTimestamp if !had_present_time => isolated.with_present_time = true,
            // The client was replaced.
            Refusal::NotSent => {}
            _ => {
                isolated.with_present_time = had_present_time;
                isolated.passing.get_or_insert((String::new(), now)).0 = reason;
                isolated.retry_at = now + isolated.retry_pause;
                isolated.retry_pause = (isolated.retry_pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
        Some((position, Verdict::Retry))
    }

    /// A record that waited must not be sent: it is parked.
    pub(super) fn remove(&mut self, place: &Place, position: i64) {
        let Some(isolated) = self.find(&place.0, place.1) else { return };
        isolated.waiting.remove(&position);
        if isolated.sending == Some(position) {
            isolated.sending = None;
        }
        if isolated.waiting.is_empty() && isolated.sending.is_none() {
            isolated.accepts();
        }
    }

    /// Releases the partitions whose suspects are judged. Their waiting records can be sent in batches. One in
    /// which nothing waits has no trouble: Kafka has accepted its records while the client was replaced.
    pub(super) fn release(&mut self, now: Instant) -> Vec<(Place, Vec<i64>)> {
        let mut released = Vec::new();
        for isolated in self.0.iter_mut().filter(|isolated| isolated.released_at.is_none()) {
            if isolated.waiting.is_empty() && isolated.sending.is_none() {
                isolated.accepts();
            }
            let judged = isolated.waiting.first().is_none_or(|first| *first > isolated.suspect_up_to);
            if judged && isolated.sending.is_none() && isolated.passing.is_none() && isolated.until <= now {
                isolated.released_at = Some(now);
                released.push((
                    isolated.place.clone(),
                    std::mem::take(&mut isolated.waiting).into_iter().collect(),
                ));
            }
        }
        released
    }

    /// When there is something to do without an answer of Kafka.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let isolated =
            self.0.iter().filter(|isolated| isolated.released_at.is_none() && isolated.sending.is_none());
        isolated
            .map(|isolated| if isolated.waiting.is_empty() { isolated.until } else { isolated.retry_at })
            .min()
    }

    /// The partitions with a passing error.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let waiting = |isolated: &IsolatedPlace| {
            let (reason, since) = isolated.passing.clone().filter(|_| isolated.released_at.is_none())?;
            let records = isolated.waiting.len() + usize::from(isolated.sending.is_some());
            Some(Waiting { place: isolated.place.clone(), reason, since, records })
        };
        self.0.iter().filter_map(waiting).collect()
    }
}

impl IsolatedPlace {
    fn accepts(&mut self) {
        self.passing = None;
        self.retry_pause = RETRY_PAUSE_MIN;
    }
}

#[cfg(test)]
mod tests;
