//! Claims the partitions that Kafka assigns, and reads each from the position in the database.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use futures::FutureExt;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaResult};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::TopicReader;
use crate::{
    claims::partitions::TopicPartition,
    ingress::kafka::{
        claim::{Claimed, claim},
        consumer::ConsumerContext,
        health::Part,
        rebalance::Change,
    },
};

/// The pause before a partition that the lane has given up is claimed again. In that time Kafka can assign it
/// to the host that has claimed it.
const CLAIM_BACK_AFTER: Duration = Duration::from_secs(2);

/// How long an attempt may take: the server may have gone without a word.
const CLAIM_WITHIN: Duration = Duration::from_secs(30);

/// A claim attempt that has ended.
pub(super) type Attempted = (TopicPartition, u64, anyhow::Result<Option<Claimed>>);

/// Claims a partition. An attempt that never ended, or ended unnoticed, would leave the partition unread, and
/// `readyz` would not show it.
async fn attempt_claim(context: &ConsumerContext, place: &TopicPartition) -> anyhow::Result<Option<Claimed>> {
    let claimed = AssertUnwindSafe(claim(context, place)).catch_unwind();
    match timeout(CLAIM_WITHIN, claimed).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(anyhow!("claiming it has panicked; the log has the message")),
        Err(_elapsed) => Err(anyhow!("no answer within {} s", CLAIM_WITHIN.as_secs())),
    }
}

impl TopicReader {
    /// Notes what Kafka has assigned and revoked and what the lane has given up, claims what is to be claimed,
    /// and reads what is claimed.
    pub(super) fn claim_partitions(&mut self) {
        let now = Instant::now();
        for change in self.consumer.context().take_changes() {
            match change {
                Change::Assigned(place) => {
                    self.assigned.insert(place.clone());
                    self.unclaimed.add(place, now);
                }
                Change::Revoked(place) => {
                    self.assigned.remove(&place);
                    self.unclaimed.remove(&place);
                    self.works(&place);
                }
            }
        }
        for place in self.context.claims.take_lost() {
            if self.assigned.contains(&place) {
                self.unclaimed.add_new(place, now + CLAIM_BACK_AFTER);
            }
        }
        self.must_replace |= self.watch.made_anew(&self.runtime, self.context.backend.topics.topics());
        if self.unclaimed.is_empty() {
            return;
        }
        while let Ok((place, attempt, outcome)) = self.attempts.1.try_recv() {
            self.attempted(place, attempt, outcome, now);
        }
        let (context, runtime, sender) = (&self.context, &self.runtime, &self.attempts.0);
        self.unclaimed.start_due(now, |place, attempt| {
            let (context, sender, place) = (context.clone(), sender.clone(), place.clone());
            AbortOnDropHandle::new(runtime.spawn(async move {
                let outcome = attempt_claim(&context, &place).await;
                // The reader may have ended.
                let _not_received = sender.send((place, attempt, outcome));
            }))
        });
        // The client would read a partition that is added while it pauses.
        if !self.paused {
            self.unclaimed.take_claimed().into_iter().for_each(|claimed| self.read_from(claimed));
        }
    }

    fn attempted(
        &mut self,
        place: TopicPartition,
        attempt: u64,
        outcome: anyhow::Result<Option<Claimed>>,
        now: Instant,
    ) {
        match outcome {
            Ok(Some(claimed)) => self.unclaimed.claimed(&place, attempt, claimed),
            Ok(None) => {
                if self.unclaimed.failed(&place, attempt, now) {
                    self.works(&place);
                }
            }
            Err(error) => {
                if self.unclaimed.failed(&place, attempt, now) {
                    let reason = format!("{}/{} is not read yet: {error:#}", place.0, place.1);
                    self.context.health.begin(&self.context.backend.plugin, Part::Unclaimed(place), reason);
                }
            }
        }
    }

    /// A partition has no trouble any more.
    fn works(&self, place: &TopicPartition) {
        self.context.health.end(
            &self.context.backend.plugin,
            |part| matches!(part, Part::Unclaimed(of) | Part::Unreadable(of) if of == place),
        );
    }

    /// Reads a claimed partition from its position, and only then uses the claim. Records that the Kafka
    /// client has in its buffer under an earlier claim are discarded: under the new claim they would advance
    /// the position past records that were not handled.
    fn read_from(&mut self, Claimed { claim, topic_id }: Claimed) {
        let place = (claim.topic.clone(), claim.partition);
        if self.watch.note(&place.0, topic_id) {
            self.must_replace = true;
            return;
        }
        match self.assign(&place, claim.next_offset) {
            Ok(()) => {
                self.consumer.context().read.lock().claimed(&place);
                let (epoch, offset) = (claim.epoch, claim.next_offset);
                self.context.claims.insert(claim);
                self.handed_over.claimed(&place, epoch, offset);
                self.works(&place);
            }
            Err(error) => {
                let reason = format!("{}/{} is not read yet: {error}", place.0, place.1);
                let part = Part::Unclaimed(place.clone());
                self.context.health.begin(&self.context.backend.plugin, part, reason);
                self.unclaimed.add(place, Instant::now() + CLAIM_BACK_AFTER);
            }
        }
    }

    fn assign(&self, place: &TopicPartition, offset: i64) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&place.0, place.1, Offset::Offset(offset))?;
        if self.consumer.assignment()?.find_partition(&place.0, place.1).is_some() {
            self.consumer.incremental_unassign(&list)?;
        }
        // The Kafka client remembers that a partition was paused when it was revoked.
        self.consumer.resume(&list)?;
        self.consumer.incremental_assign(&list)
    }

    /// Gives up the claims of assigned partitions and claims each again.
    pub(super) fn claim_again(&mut self, is: impl Fn(&TopicPartition) -> bool) {
        let now = Instant::now();
        let places: Vec<TopicPartition> = self.assigned.iter().filter(|place| is(place)).cloned().collect();
        self.context.claims.remove(&places);
        places.into_iter().for_each(|place| self.unclaimed.add(place, now));
    }
}
