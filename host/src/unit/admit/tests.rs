use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Admission, Disposition, Parking, Work};
use crate::{
    claims::partition::PartitionClaim,
    model::{
        dedup::{DedupMark, DedupMarks},
        delivery::{Delivery, Origin},
        fault::ParkedUntil,
        trace::Trace,
    },
};

fn claim(next_offset: i64, parked: &[&str]) -> HashMap<(Arc<str>, i32), PartitionClaim> {
    let claim = PartitionClaim {
        id: 5,
        topic: "t".into(),
        partition: 0,
        epoch: 7,
        next_offset,
        stored_offset: next_offset,
        dedup_marks: DedupMarks::default(),
        parked: parked.iter().map(|key| ((*key).to_owned(), 1)).collect(),
    };
    HashMap::from([(("t".into(), 0), claim)])
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
        sequence: None,
        parked_id: None,
        unreadable: None,
        claim_epoch: 7,
    };
    Work { delivery, parking: None }
}

fn marked(offset: i64, id: &str) -> Work {
    let mut work = work(offset, "k");
    work.delivery.mark = DedupMark::of_record(b"/saga-host/d/p", id);
    work
}

fn parked(mut work: Work) -> Work {
    work.parking = Some(Parking { reason: "bad".into(), until: ParkedUntil::Backoff });
    work
}

#[test]
fn handled_offsets_are_dropped_and_gaps_are_skipped() {
    let admission =
        Admission::decide(&[work(3, "a"), work(4, "b"), work(9, "c"), work(9, "c")], &claim(4, &[]));
    assert_eq!(
        admission.dispositions,
        [Disposition::Drop, Disposition::Run, Disposition::Run, Disposition::Drop]
    );
    assert_eq!(
        (admission.claim_advances[0].expected_offset, admission.claim_advances[0].next_offset),
        (4, 10)
    );
}

#[test]
fn a_repeat_of_ours_advances_the_partition_and_is_dropped() {
    let admission = Admission::decide(&[marked(4, "d:1:7:1:0"), marked(5, "d:1:7:1:0")], &claim(4, &[]));
    assert_eq!(admission.dispositions, [Disposition::Run, Disposition::Drop]);
    assert_eq!(
        (admission.claim_advances[0].next_offset, admission.claim_advances[0].dedup_marks.as_str()),
        (6, "d:1:7:1:0")
    );
}

#[test]
fn only_the_key_of_a_parked_delivery_queues() {
    let batch = [work(4, "a"), work(5, "b"), parked(work(6, "b")), work(7, "b"), work(8, "c")];
    let admission = Admission::decide(&batch, &claim(4, &["a"]));
    assert_eq!(
        admission.dispositions,
        [Disposition::Queue, Disposition::Run, Disposition::Park, Disposition::Queue, Disposition::Run]
    );
}

#[test]
fn a_partition_of_another_host_is_left_alone() {
    let mut other = work(4, "a");
    other.delivery.origin = Origin::Kafka { topic: "t".into(), partition: 1, offset: 4 };
    let batch = [other, work(4, "a")];
    let admission = Admission::decide(&batch, &claim(4, &[]));
    assert_eq!(admission.dispositions, [Disposition::Drop, Disposition::Run]);
    assert_eq!(admission.lost(&HashSet::from([5])), []);
    assert_eq!(admission.lost(&HashSet::new()), [("t".into(), 0)]);
    assert!(Admission::decide(&batch, &HashMap::new()).is_empty());
}

#[test]
fn a_delivery_read_under_an_earlier_claim_is_dropped() {
    let mut old = work(9, "a");
    old.delivery.claim_epoch = 6;
    let admission = Admission::decide(&[old, work(4, "a")], &claim(4, &[]));
    assert_eq!(admission.dispositions, [Disposition::Drop, Disposition::Run]);
}

#[test]
fn a_parked_delivery_that_is_tried_again_moves_nothing() {
    let mut again = work(2, "a");
    again.delivery.parked_id = Some(1);
    let admission = Admission::decide(&[again], &claim(4, &["a"]));
    assert_eq!(admission.dispositions, [Disposition::Run]);
    assert_eq!(
        (admission.claim_advances[0].expected_offset, admission.claim_advances[0].next_offset),
        (4, 4)
    );
}

#[test]
fn a_record_that_claims_what_no_lane_can_have_given_is_parked_and_raises_no_mark() {
    let now_ms = 1_795_375_680_123;
    let forged = marked(4, &format!("6921f3c000c0ffee:1:{}:1:0", i64::MAX));
    let batch = [
        Work::of(forged.delivery, now_ms),
        Work::of(marked(5, "6921f3c000c0ffee:1:7:1:0").delivery, now_ms),
        Work::of(Delivery { correlation: None, ..marked(6, "6921f3c000c0ffee:1:7:2:0").delivery }, now_ms),
    ];
    let reason = batch[0].parking.as_ref().map(|parking| parking.reason.clone()).unwrap_or_default();
    assert!(reason.contains("6921f3c000c0ffee:1") && reason.contains("redrive"), "{reason}");
    let admission = Admission::decide(&batch, &claim(4, &[]));
    assert_eq!(admission.dispositions, [Disposition::Park, Disposition::Queue, Disposition::Run]);
    assert_eq!(admission.claim_advances[0].dedup_marks, "6921f3c000c0ffee:1:7:2:0");
}
