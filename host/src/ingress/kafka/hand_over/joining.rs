//! How a consumer joins the records that a relay hands over, for one partition. Pure bookkeeping: no queue, no
//! Kafka.
//!
//! ```text
//!            a record is sent        Kafka has stored it at offset o,
//!                                    and everything below o is read
//!  outside ────────────────────▶ joining ────────────────────▶ joined
//!     ▲                             │  ▲                          │
//!     └── interrupted, no room ─────┘  └── may be refused ────────┘
//! ```
//!
//! What is handed over must continue, without a gap, what was read from Kafka: everything below `o` comes
//! before the first record in the order of sending, and everything after it is kept.

use crate::sabotage::{self, Switch};

/// What is known of one partition. `T` is a delivery.
#[derive(Debug)]
pub(super) struct Joining<T> {
    /// Of the claim, and the offset below which everything went to the lane under it.
    read: Option<(i64, i64)>,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Outside,
    Joining {
        source: Source,
        /// Position of the first record that is kept.
        first: i64,
        /// Its offset, once Kafka has stored it.
        offset: Option<i64>,
        kept: Vec<(T, usize)>,
        bytes: usize,
    },
    Joined {
        source: Source,
        offset: i64,
    },
}

/// Under which claim a partition is read, and under which leadership records are sent to it. Both change when
/// the order may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) claim_epoch: i64,
    pub(super) leadership: u64,
}

/// What is to be done with a record that is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// Nothing: it is kept.
    Kept,
    /// It is kept as the first one: its offset is needed.
    First,
    /// The lane gets these.
    Deliver(Vec<(T, usize)>),
}

impl<T> Default for Joining<T> {
    fn default() -> Self {
        Self { read: None, state: State::Outside }
    }
}

impl<T> Joining<T> {
    /// A record is sent at `position`. `acceptable` is false when Kafka may refuse it: then it is not handed
    /// over before Kafka has stored it. At most `bytes_max` are kept.
    pub(super) fn sent(
        &mut self,
        source: Source,
        (position, acceptable): (i64, bool),
        (delivery, bytes): (T, usize),
        bytes_max: usize,
    ) -> Step<T> {
        if sabotage::on(Switch::JoinedAtOnce) {
            return Step::Deliver(vec![(delivery, bytes)]);
        }
        match &mut self.state {
            State::Joined { source: joined, .. } if *joined == source && acceptable => {
                return Step::Deliver(vec![(delivery, bytes)]);
            }
            State::Joining { source: joining, kept, bytes: kept_bytes, .. }
                if *joining == source && acceptable && *kept_bytes + bytes <= bytes_max =>
            {
                kept.push((delivery, bytes));
                *kept_bytes += bytes;
                return self.join().map_or(Step::Kept, Step::Deliver);
            }
            _ => {}
        }
        self.state =
            State::Joining { source, first: position, offset: None, kept: vec![(delivery, bytes)], bytes };
        Step::First
    }

    /// Kafka has stored the record of this position at `offset`. Returns what the lane gets.
    pub(super) fn acknowledged(&mut self, position: i64, at: i64) -> Option<Vec<(T, usize)>> {
        match &mut self.state {
            State::Joining { first, offset, .. } if *first == position => *offset = Some(at),
            _ => return None,
        }
        self.join()
    }

    /// Everything below `offset` went to the lane under this claim. Returns what the lane gets next.
    pub(super) fn read(&mut self, claim_epoch: i64, offset: i64) -> Option<Vec<(T, usize)>> {
        self.read = Some((claim_epoch, offset));
        self.join()
    }

    /// Something is sent that is not handed over, or the lane has no room.
    pub(super) fn leave(&mut self) {
        self.state = State::Outside;
    }

    /// The offset from which on records are handed over; none while they are not.
    pub(super) fn joined_at(&self) -> Option<i64> {
        match &self.state {
            State::Joined { offset, .. } => Some(*offset),
            State::Outside | State::Joining { .. } => None,
        }
    }

    fn join(&mut self) -> Option<Vec<(T, usize)>> {
        let State::Joining { source, offset: Some(offset), kept, .. } = &mut self.state else { return None };
        let (claim_epoch, read) = self.read?;
        if claim_epoch != source.claim_epoch || read < *offset {
            return None;
        }
        let (source, offset, kept) = (*source, *offset, std::mem::take(kept));
        self.state = State::Joined { source, offset };
        Some(kept)
    }
}

#[cfg(test)]
mod tests;
