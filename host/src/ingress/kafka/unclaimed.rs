//! The partitions that Kafka assigns to this host and that it has not claimed yet. Each is claimed by a task
//! of its own, and retried with growing pauses: a claim that fails, or waits for Postgres or Kafka, concerns
//! its partition alone.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio_util::task::AbortOnDropHandle;

use super::claim::Claimed;
use crate::claims::partitions::TopicPartition;

/// The pause after the first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// So that a partition is read within 10 s after its trouble has ended.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How many claims of one consumer run at a time: each takes a connection to Postgres.
const CLAIMS_AT_ONCE_MAX: usize = 2;

/// What is done for one partition.
#[derive(Debug)]
enum State {
    /// The next attempt starts then.
    Due(Instant),
    /// The attempt of this number; removing the partition ends it.
    Running(u64, #[allow(dead_code, reason = "dropping it ends the task")] AbortOnDropHandle<()>),
    /// Claimed, and not read yet.
    Claimed(Claimed),
}

#[derive(Debug)]
struct Unread {
    state: State,
    pause: Duration,
}

/// The partitions, and the attempts to claim them.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    places: HashMap<TopicPartition, Unread>,
    attempts: u64,
}

impl Unclaimed {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether an attempt runs.
    pub(super) fn is_claiming(&self) -> bool {
        self.places.values().any(|unread| matches!(unread.state, State::Running(..)))
    }

    /// A partition that is to be claimed at `due`. Ends an attempt that runs.
    pub(super) fn add(&mut self, place: TopicPartition, due: Instant) {
        self.places.insert(place, Unread { state: State::Due(due), pause: PAUSE_MIN });
    }

    /// A partition that is to be claimed at `due`, unless it is known already.
    pub(super) fn add_new(&mut self, place: TopicPartition, due: Instant) {
        let new = || Unread { state: State::Due(due), pause: PAUSE_MIN };
        self.places.entry(place).or_insert_with(new);
    }

    /// Kafka no longer assigns the partition.
    pub(super) fn remove(&mut self, place: &TopicPartition) {
        self.places.remove(place);
    }

    /// Starts the attempts that are due, each by `start` with its number, first what has been due for longest.
    pub(super) fn start_due(
        &mut self,
        now: Instant,
        mut start: impl FnMut(&TopicPartition, u64) -> AbortOnDropHandle<()>,
    ) {
        let running = self.places.values().filter(|unread| matches!(unread.state, State::Running(..)));
        let free = CLAIMS_AT_ONCE_MAX.saturating_sub(running.count());
        let mut due: Vec<_> = self
            .places
            .iter_mut()
            .filter_map(|(place, unread)| match unread.state {
                State::Due(due) if due <= now => Some((due, place, unread)),
                _ => None,
            })
            .collect();
        due.sort_unstable_by_key(|(due, ..)| *due);
        for (_, place, unread) in due.into_iter().take(free) {
            self.attempts += 1;
            unread.state = State::Running(self.attempts, start(place, self.attempts));
        }
    }

    /// An attempt has failed. Returns false when it no longer counts.
    pub(super) fn failed(&mut self, place: &TopicPartition, attempt: u64, now: Instant) -> bool {
        let Some(unread) = self.running(place, attempt) else { return false };
        unread.state = State::Due(now + unread.pause);
        unread.pause = (unread.pause * 2).min(PAUSE_MAX);
        true
    }

    /// An attempt has succeeded, if it still counts.
    pub(super) fn claimed(&mut self, place: &TopicPartition, attempt: u64, claimed: Claimed) {
        if let Some(unread) = self.running(place, attempt) {
            unread.state = State::Claimed(claimed);
        }
    }

    /// Removes and returns the partitions that are claimed and can be read.
    pub(super) fn take_claimed(&mut self) -> Vec<Claimed> {
        let is_claimed = |unread: &Unread| matches!(unread.state, State::Claimed(_));
        let claimed = self.places.extract_if(|_, unread| is_claimed(unread));
        claimed
            .filter_map(|(_, unread)| match unread.state {
                State::Claimed(claimed) => Some(claimed),
                State::Due(_) | State::Running(..) => None,
            })
            .collect()
    }

    fn running(&mut self, place: &TopicPartition, attempt: u64) -> Option<&mut Unread> {
        let unread = self.places.get_mut(place)?;
        matches!(unread.state, State::Running(number, _) if number == attempt).then_some(unread)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        time::{Duration, Instant},
    };

    use tokio_util::task::AbortOnDropHandle;

    use super::{CLAIMS_AT_ONCE_MAX, Claimed, PAUSE_MIN, TopicPartition, Unclaimed};
    use crate::{claims::partition::PartitionClaim, model::dedup::DedupMarks};

    fn place(partition: i32) -> TopicPartition {
        ("t".into(), partition)
    }

    fn claim(place: &TopicPartition) -> Claimed {
        let claim = PartitionClaim {
            id: 1,
            topic: place.0.clone(),
            partition: place.1,
            epoch: 7,
            next_offset: 0,
            stored_offset: 0,
            dedup_marks: DedupMarks::default(),
            parked: HashMap::new(),
        };
        Claimed { claim, topic_id: None }
    }

    /// The attempts that start now, by partition.
    fn started(unclaimed: &mut Unclaimed, now: Instant) -> HashMap<i32, u64> {
        let mut started = HashMap::new();
        unclaimed.start_due(now, |place, attempt| {
            started.insert(place.1, attempt);
            AbortOnDropHandle::new(tokio::spawn(std::future::pending()))
        });
        started
    }

    #[tokio::test]
    async fn a_claim_that_fails_is_tried_again_and_delays_no_other() {
        let (mut unclaimed, now) = (Unclaimed::default(), Instant::now());
        unclaimed.add(place(0), now);
        unclaimed.add(place(1), now);
        let first = started(&mut unclaimed, now);
        assert_eq!(first.len(), 2);
        assert!(unclaimed.failed(&place(0), first[&0], now));
        unclaimed.claimed(&place(1), first[&1], claim(&place(1)));
        assert_eq!(unclaimed.take_claimed().len(), 1);
        assert!(started(&mut unclaimed, now).is_empty(), "it pauses");
        let second = started(&mut unclaimed, now + PAUSE_MIN);
        assert!(unclaimed.failed(&place(0), second[&0], now));
        assert!(started(&mut unclaimed, now + PAUSE_MIN).is_empty(), "it pauses for longer");
        assert_eq!(started(&mut unclaimed, now + 2 * PAUSE_MIN).len(), 1);
    }

    #[tokio::test]
    async fn an_attempt_for_a_partition_that_was_revoked_does_not_count() {
        let (mut unclaimed, now) = (Unclaimed::default(), Instant::now());
        unclaimed.add(place(0), now);
        let first = started(&mut unclaimed, now);
        unclaimed.remove(&place(0));
        assert!(unclaimed.is_empty());
        unclaimed.add(place(0), now);
        let second = started(&mut unclaimed, now);
        unclaimed.claimed(&place(0), first[&0], claim(&place(0)));
        assert!(unclaimed.take_claimed().is_empty() && !unclaimed.failed(&place(0), first[&0], now));
        unclaimed.claimed(&place(0), second[&0], claim(&place(0)));
        assert_eq!(unclaimed.take_claimed().len(), 1);
    }

    #[tokio::test]
    async fn few_claims_run_at_a_time() {
        let (mut unclaimed, now) = (Unclaimed::default(), Instant::now());
        (0..20).for_each(|partition| unclaimed.add(place(partition), now));
        assert_eq!(started(&mut unclaimed, now).len(), CLAIMS_AT_ONCE_MAX);
        assert!(started(&mut unclaimed, now + Duration::from_secs(9)).is_empty());
    }

    /// Otherwise partitions whose claims fail slowly would take all turns.
    #[tokio::test]
    async fn what_has_been_due_for_longest_comes_first() {
        let (mut unclaimed, now) = (Unclaimed::default(), Instant::now());
        for partition in 0..20_u32 {
            unclaimed.add(place(partition.cast_signed()), now + PAUSE_MIN * (partition + 1));
        }
        unclaimed.add(place(20), now);
        let started = started(&mut unclaimed, now + PAUSE_MIN * 30);
        assert!(started.contains_key(&20) && started.contains_key(&0), "{started:?}");
    }
}
