//! What a unit does with each delivery that is offered to it, before the database is asked: pure.

use std::collections::{HashMap, HashSet};

use super::open::SourceStep;
use crate::{
    claims::{
        partition::Source,
        partitions::{Advance, Place},
    },
    model::{
        delivery::{Delivery, Origin},
        fault::Then,
    },
};

/// A delivery on its way through units, until one commits.
#[derive(Clone, Debug)]
pub struct Work {
    /// The delivery.
    pub delivery: Delivery,
    /// Set when an earlier try found that it cannot be handled now: it is set aside.
    pub aside: Option<Aside>,
}

/// Why a delivery is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// For a person to read.
    pub reason: String,
    /// When it is tried again.
    pub then: Then,
}

/// What a unit does with one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The plugin gets it.
    Run,
    /// It is written down for later.
    Aside,
    /// It queues behind a held one of its key.
    Queued,
    /// It was handled before, or belongs to another host by now.
    Drop,
}

/// A unit's deliveries and how its sources move on.
#[derive(Debug, Default)]
pub struct Plan {
    /// One for each piece of work.
    pub fates: Vec<Fate>,
    /// Sorted by id.
    pub steps: Vec<SourceStep>,
    /// The same after the commit, by row of `saga.source`.
    pub advances: HashMap<i32, Advance>,
}

impl Plan {
    /// Decides for `work`, in its order.
    #[must_use]
    pub fn make(work: &[Work], sources: &HashMap<Place, Source>) -> Self {
        let mut plan = Self::default();
        let mut held: HashSet<(i32, &str)> = HashSet::new();
        let mut ids: HashSet<&str> = HashSet::new();
        for item in work {
            let fate = plan.fate(item, sources, &mut held, &mut ids);
            plan.fates.push(fate);
        }
        plan.steps.sort_unstable_by_key(|step| step.id);
        for step in &mut plan.steps {
            if let Some(advance) = plan.advances.get(&step.id) {
                step.next = advance.next_offset;
                step.seen = advance.seen.to_text();
            }
        }
        plan
    }

    fn fate<'a>(
        &mut self,
        item: &'a Work,
        sources: &HashMap<Place, Source>,
        held: &mut HashSet<(i32, &'a str)>,
        ids: &mut HashSet<&'a str>,
    ) -> Fate {
        let delivery = &item.delivery;
        let set_aside = || if item.aside.is_some() { Fate::Aside } else { Fate::Run };
        let Origin::Kafka { topic, partition, offset } = &delivery.origin else { return set_aside() };
        let Some(source) = sources.get(&(topic.clone(), *partition)) else { return Fate::Drop };
        let advance = self.advance_of(source);
        if delivery.held.is_some() {
            return set_aside();
        }
        if delivery.claim != source.epoch || *offset < advance.next_offset {
            return Fate::Drop;
        }
        advance.next_offset = offset + 1;
        let repeated = delivery.mark.as_ref().is_some_and(|mark| !advance.seen.note(mark))
            || delivery.foreign_id.as_deref().is_some_and(|id| !ids.insert(id));
        if repeated {
            return Fate::Drop;
        }
        let Some(key) = delivery.correlation.as_deref() else { return set_aside() };
        if source.held.contains_key(key) || held.contains(&(source.id, key)) {
            return Fate::Queued;
        }
        if item.aside.is_some() {
            held.insert((source.id, key));
        }
        set_aside()
    }

    /// A source of which only held deliveries are tried again stays where it is, but must be ours.
    fn advance_of(&mut self, source: &Source) -> &mut Advance {
        let steps = &mut self.steps;
        self.advances.entry(source.id).or_insert_with(|| {
            steps.push(SourceStep {
                id: source.id,
                epoch: source.epoch,
                expected: source.next_offset,
                next: source.next_offset,
                seen: String::new(),
            });
            Advance {
                place: (source.topic.clone(), source.partition),
                epoch: source.epoch,
                next_offset: source.next_offset,
                seen: source.seen.clone(),
                held: Vec::new(),
                freed: Vec::new(),
            }
        })
    }

    /// True when there is nothing to handle and no source moves on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.fates.iter().all(|fate| *fate == Fate::Drop)
    }

    /// The places of the sources that are no longer ours.
    #[must_use]
    pub fn lost(&self, ours: &HashSet<i32>) -> Vec<Place> {
        let lost = self.advances.iter().filter(|(id, _)| !ours.contains(id));
        lost.map(|(_, advance)| advance.place.clone()).collect()
    }

    /// The advance of the partition that a delivery comes from.
    pub fn advance_for(&mut self, delivery: &Delivery) -> Option<&mut Advance> {
        let Origin::Kafka { topic, partition, .. } = &delivery.origin else { return None };
        self.advances.values_mut().find(|advance| advance.place.0 == *topic && advance.place.1 == *partition)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::Arc,
    };

    use super::{Aside, Fate, Plan, Work};
    use crate::{
        claims::partition::Source,
        model::{
            dedup::{Mark, Seen},
            delivery::{Delivery, Origin},
            fault::Then,
            trace::Trace,
        },
    };

    fn source(next_offset: i64, held: &[&str]) -> HashMap<(Arc<str>, i32), Source> {
        let source = Source {
            id: 5,
            topic: "t".into(),
            partition: 0,
            epoch: 7,
            next_offset,
            seen: Seen::default(),
            held: held.iter().map(|key| ((*key).to_owned(), 1)).collect(),
        };
        HashMap::from([(("t".into(), 0), source)])
    }

    fn work(offset: i64, key: &str) -> Work {
        let delivery = Delivery {
            id: format!("t/0/{offset}"),
            origin: Origin::Kafka { topic: "t".into(), partition: 0, offset },
            correlation: Some(key.to_owned()),
            event_type: String::new(),
            key: None,
            headers: vec![],
            payload: None,
            timestamp_us: 0,
            attempt: 1,
            trace: Trace::start(),
            mark: None,
            foreign_id: None,
            held: None,
            claim: 7,
        };
        Work { delivery, aside: None }
    }

    fn marked(offset: i64, id: &str) -> Work {
        let mut work = work(offset, "k");
        work.delivery.mark = Mark::parse(id);
        work
    }

    fn aside(mut work: Work) -> Work {
        work.aside = Some(Aside { reason: "bad".into(), then: Then::Retry });
        work
    }

    #[test]
    fn what_was_handled_is_dropped_and_gaps_are_passed() {
        let plan = Plan::make(&[work(3, "a"), work(4, "b"), work(9, "c"), work(9, "c")], &source(4, &[]));
        assert_eq!(plan.fates, [Fate::Drop, Fate::Run, Fate::Run, Fate::Drop]);
        assert_eq!((plan.steps[0].expected, plan.steps[0].next), (4, 10));
    }

    #[test]
    fn a_repeat_of_ours_moves_the_source_on_and_is_dropped() {
        let plan = Plan::make(&[marked(4, "d:1:7:1:0"), marked(5, "d:1:7:1:0")], &source(4, &[]));
        assert_eq!(plan.fates, [Fate::Run, Fate::Drop]);
        assert_eq!((plan.steps[0].next, plan.steps[0].seen.as_str()), (6, "d:1:7:1:0"));
    }

    #[test]
    fn only_the_key_of_a_held_delivery_waits() {
        let batch = [work(4, "a"), work(5, "b"), aside(work(6, "b")), work(7, "b"), work(8, "c")];
        let plan = Plan::make(&batch, &source(4, &["a"]));
        assert_eq!(plan.fates, [Fate::Queued, Fate::Run, Fate::Aside, Fate::Queued, Fate::Run]);
    }

    #[test]
    fn a_partition_of_another_host_is_left_alone() {
        let mut other = work(4, "a");
        other.delivery.origin = Origin::Kafka { topic: "t".into(), partition: 1, offset: 4 };
        let batch = [other, work(4, "a")];
        let plan = Plan::make(&batch, &source(4, &[]));
        assert_eq!(plan.fates, [Fate::Drop, Fate::Run]);
        assert_eq!(plan.lost(&HashSet::from([5])), []);
        assert_eq!(plan.lost(&HashSet::new()), [("t".into(), 0)]);
        assert!(Plan::make(&batch, &HashMap::new()).is_empty());
    }

    #[test]
    fn what_an_earlier_claim_read_is_dropped() {
        let mut old = work(9, "a");
        old.delivery.claim = 6;
        let plan = Plan::make(&[old, work(4, "a")], &source(4, &[]));
        assert_eq!(plan.fates, [Fate::Drop, Fate::Run]);
    }

    #[test]
    fn a_held_delivery_that_is_tried_again_moves_nothing() {
        let mut again = work(2, "a");
        again.delivery.held = Some(1);
        let plan = Plan::make(&[again], &source(4, &["a"]));
        assert_eq!(plan.fates, [Fate::Run]);
        assert_eq!((plan.steps[0].expected, plan.steps[0].next), (4, 4));
    }
}
