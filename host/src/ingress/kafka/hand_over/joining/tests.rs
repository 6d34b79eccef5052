use proptest::{
    prelude::{Just, Strategy, any, prop_oneof},
    prop_assert_eq, proptest,
};

use super::{Joining, Source, Step};

const SOURCE: Source = Source { claim_epoch: 7, leadership: 1 };
const KEPT_BYTES_MAX: usize = 5;

fn sent(joining: &mut Joining<i64>, position: i64) -> Step<i64> {
    joining.sent(SOURCE, (position, true), (position, 1), KEPT_BYTES_MAX)
}

fn deliver(positions: &[i64]) -> Option<Vec<(i64, usize)>> {
    Some(positions.iter().map(|position| (*position, 1)).collect())
}

#[test]
fn records_are_kept_until_all_before_the_first_one_is_read() {
    let mut joining = Joining::default();
    assert_eq!(joining.read(7, 40), None);
    assert_eq!(sent(&mut joining, 3), Step::First);
    assert_eq!(sent(&mut joining, 4), Step::Kept);
    assert_eq!(joining.acknowledged(4, 43), None, "not the first one");
    assert_eq!(joining.acknowledged(3, 42), None, "40 and 41 are not read");
    assert_eq!(joining.read(6, 42), None, "under an earlier claim");
    assert_eq!(joining.joined_at(), None);
    assert_eq!(joining.read(7, 42), deliver(&[3, 4]));
    assert_eq!(joining.joined_at(), Some(42));
    assert_eq!(sent(&mut joining, 5), Step::Deliver(vec![(5, 1)]));
}

#[test]
fn a_partition_that_is_read_to_its_end_is_joined_at_the_acknowledgement() {
    let mut joining = Joining::default();
    joining.read(7, 42);
    assert_eq!(sent(&mut joining, 3), Step::First);
    assert_eq!(joining.acknowledged(3, 42), deliver(&[3]));
}

#[test]
fn what_may_have_changed_the_order_starts_anew() {
    let joined = || {
        let mut joining = Joining::default();
        joining.read(7, 42);
        sent(&mut joining, 3);
        joining.acknowledged(3, 42);
        joining
    };
    let mut interrupted = joined();
    interrupted.leave();
    assert_eq!(sent(&mut interrupted, 4), Step::First);
    for source in [Source { claim_epoch: 8, ..SOURCE }, Source { leadership: 2, ..SOURCE }] {
        assert_eq!(joined().sent(source, (4, true), (4, 1), KEPT_BYTES_MAX), Step::First, "{source:?}");
    }
    let mut refusable = joined();
    assert_eq!(refusable.sent(SOURCE, (4, false), (4, 1), KEPT_BYTES_MAX), Step::First);
    assert_eq!(sent(&mut refusable, 5), Step::Kept, "behind the one that Kafka may refuse");
}

#[test]
fn when_too_much_would_be_kept_a_later_record_is_the_first_one() {
    let mut joining = Joining::default();
    joining.read(7, 40);
    assert_eq!(sent(&mut joining, 0), Step::First);
    for position in 1..5 {
        assert_eq!(sent(&mut joining, position), Step::Kept);
    }
    assert_eq!(sent(&mut joining, 5), Step::First);
    assert_eq!(joining.acknowledged(0, 40), None);
    assert_eq!(joining.acknowledged(5, 45), None);
    assert_eq!(joining.read(7, 45), deliver(&[5]));
}

/// What happens to a partition.
#[derive(Clone, Debug)]
enum Event {
    Send {
        acceptable: bool,
    },
    /// Another leader, which sends again what was not acknowledged, or anything else sends this many records.
    SendElsewhere,
    /// Kafka answers to the oldest record without an answer.
    Acknowledge,
    /// The consumer reads this many records.
    Read(usize),
    Interrupt,
    /// The partition is claimed again, from the position of the lane.
    Claim,
    Lead,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<bool>().prop_map(|rarely| Event::Send { acceptable: rarely }),
        6 => Just(Event::Send { acceptable: true }),
        1 => Just(Event::SendElsewhere),
        6 => Just(Event::Acknowledge),
        6 => (1..5_usize).prop_map(Event::Read),
        1 => Just(Event::Interrupt),
        1 => Just(Event::Claim),
        1 => Just(Event::Lead),
    ]
}

/// A partition in Kafka, its leader, and the lane that reads it. A record is its number; all are of one stream.
struct Partition {
    joining: Joining<i64>,
    source: Source,
    log: Vec<i64>,
    /// Sent, and not yet in the log.
    under_way: std::collections::VecDeque<i64>,
    next: i64,
    read: usize,
    /// The dedup mark of the lane.
    mark: i64,
    handled: Vec<i64>,
}

impl Partition {
    /// The lane drops what its mark covers. The records of a stream are in order, so a skipped one is lost.
    fn lane(&mut self, records: Option<Vec<(i64, usize)>>) {
        for (record, _) in records.into_iter().flatten() {
            if record > self.mark {
                self.mark = record;
                self.handled.push(record);
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Send { acceptable } => {
                let record = self.next;
                self.next += 1;
                let step = self.joining.sent(self.source, (record, *acceptable), (record, 1), KEPT_BYTES_MAX);
                if let Step::Deliver(records) = step {
                    self.lane(Some(records));
                }
                self.under_way.push_back(record);
            }
            Event::SendElsewhere => {
                // In order behind what is under way, and not handed over.
                self.joining.leave();
                while !self.under_way.is_empty() {
                    self.apply(&Event::Acknowledge);
                }
                self.log.push(self.next);
                self.next += 1;
            }
            Event::Acknowledge => {
                let Some(record) = self.under_way.pop_front() else { return };
                let offset = i64::try_from(self.log.len()).unwrap_or(0);
                self.log.push(record);
                let kept = self.joining.acknowledged(record, offset);
                self.lane(kept);
            }
            Event::Read(records) => {
                let up_to = (self.read + records).min(self.log.len());
                let burst = self.log[self.read..up_to].iter().map(|record| (*record, 1)).collect();
                self.read = up_to;
                self.lane(Some(burst));
                let kept = self.joining.read(self.source.claim_epoch, i64::try_from(up_to).unwrap_or(0));
                self.lane(kept);
            }
            Event::Interrupt => self.joining.leave(),
            Event::Claim => {
                self.source.claim_epoch += 1;
                self.joining = Joining::default();
                self.joining.read(self.source.claim_epoch, i64::try_from(self.read).unwrap_or(0));
            }
            Event::Lead => {
                // The next leader sends again what has no answer, of which the log may have some already.
                self.source.leadership += 1;
                let again = std::mem::take(&mut self.under_way);
                self.log.extend(again.iter().take(again.len() / 2));
                for record in again {
                    let step = self.joining.sent(self.source, (record, true), (record, 1), KEPT_BYTES_MAX);
                    if let Step::Deliver(records) = step {
                        self.lane(Some(records));
                    }
                    self.under_way.push_back(record);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_lane_handles_each_record_once_and_in_order(
        events in proptest::collection::vec(event(), 0..120)
    ) {
        let mut partition = Partition {
            joining: Joining::default(),
            source: SOURCE,
            log: Vec::new(),
            under_way: std::collections::VecDeque::new(),
            next: 1,
            read: 0,
            mark: 0,
            handled: Vec::new(),
        };
        partition.joining.read(SOURCE.claim_epoch, 0);
        for event in &events {
            partition.apply(event);
        }
        while !partition.under_way.is_empty() {
            partition.apply(&Event::Acknowledge);
        }
        let rest = partition.log.len();
        partition.apply(&Event::Read(rest));
        prop_assert_eq!(partition.handled, (1..partition.next).collect::<Vec<_>>());
    }
}
