use std::sync::Arc;

use super::{LaneUnit, ReadyMax, Records, SendOrder};
use crate::model::record::Record;

const MAX: ReadyMax = ReadyMax { units: 100, bytes: 1 << 20 };
/// Where it does not matter which unit has a number.
const UNIT: LaneUnit = (1, 7, 1);

fn records() -> Records {
    Arc::new(Vec::new())
}

fn sent(order: &mut SendOrder) -> Vec<i64> {
    std::iter::from_fn(|| order.take_next()).map(|(seq, _)| seq).collect()
}

/// The order of a leader without peers that has read the outbox up to number 10.
fn leading() -> SendOrder {
    let mut order = SendOrder::new(MAX);
    order.lead();
    order.set_has_peers(false);
    order.register(10, UNIT);
    order.committed(10, UNIT, records());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(10, records())], true);
    assert_eq!(sent(&mut order), [10]);
    order
}

#[test]
fn a_lower_unit_that_is_committing_is_sent_first() {
    let mut order = leading();
    order.register(11, UNIT);
    order.register(12, UNIT);
    order.committed(12, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    order.committed(11, UNIT, records());
    assert_eq!(sent(&mut order), [11, 12]);
}

#[test]
fn a_rollback_leaves_no_gap() {
    let mut order = leading();
    order.register(11, UNIT);
    order.rolled_back(11, UNIT);
    order.register(12, UNIT);
    order.committed(12, UNIT, records());
    assert_eq!(sent(&mut order), [12]);
}

#[test]
fn a_snapshot_fills_a_gap_with_what_must_be_sent_first() {
    let mut order = leading();
    order.register(12, UNIT);
    order.committed(12, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records()), (12, records())], true);
    assert_eq!(sent(&mut order), [11, 12]);
}

#[test]
fn a_late_lower_unit_is_sent_when_a_snapshot_shows_it() {
    let mut order = leading();
    order.register(12, UNIT);
    order.committed(12, UNIT, records());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(12, records())], true);
    assert_eq!(sent(&mut order), [12]);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records()), (12, records())], true);
    assert_eq!(sent(&mut order), [11]);
}

#[test]
fn a_unit_seen_in_a_snapshot_is_not_sent_twice() {
    let mut order = leading();
    order.register(11, UNIT);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records())], true);
    assert_eq!(sent(&mut order), [11]);
    order.committed(11, UNIT, records());
    order.acknowledged(11);
    order.committed(11, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
}

#[test]
fn what_a_new_client_has_to_send_is_in_order() {
    let mut order = leading();
    for seq in 11..14 {
        order.register(seq, UNIT);
        order.committed(seq, UNIT, records());
    }
    assert_eq!(sent(&mut order), [11, 12, 13]);
    order.acknowledged(10);
    order.acknowledged(12);
    let again: Vec<i64> = order.in_flight_units().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(again, [11, 13]);
}

/// Of one record with a payload of this size.
fn large(bytes: usize) -> Records {
    Arc::new(vec![Record {
        topic: "t".into(),
        partition: 0,
        timestamp_ms: 0,
        key: None,
        payload: Some(vec![0; bytes].into()),
        headers: Vec::new(),
    }])
}

/// Ten units of 300 KB, of which three fit.
#[test]
fn large_units_stay_in_the_outbox() {
    const LARGE: usize = 300_000;
    let mut order = leading();
    order.acknowledged(10);
    for seq in 11..=20 {
        order.register(seq, UNIT);
        order.committed(seq, UNIT, large(LARGE));
        assert!(order.ready_bytes <= MAX.bytes, "{}", order.ready_bytes);
    }
    assert!(order.needs_snapshot());
    let mut found = Vec::new();
    while found.len() < 10 {
        let started = order.begin_snapshot();
        let next = 11 + found.len() as i64;
        order.snapshot(started, (next..=20).take(2).map(|seq| (seq, large(LARGE))).collect(), next >= 19);
        assert!(order.ready_bytes <= MAX.bytes, "{}", order.ready_bytes);
        let some = sent(&mut order);
        some.iter().for_each(|seq| order.acknowledged(*seq));
        found.extend(some);
    }
    assert_eq!(found, (11..=20).collect::<Vec<_>>());
    assert_eq!(order.ready_bytes, 0);
}

#[test]
fn a_backlog_stays_in_the_outbox() {
    let mut order = SendOrder::new(ReadyMax { units: 4, ..MAX });
    order.lead();
    order.set_has_peers(false);
    for seq in 1..=10 {
        order.register(seq, UNIT);
        order.committed(seq, UNIT, records());
    }
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, (1..=3).map(|seq| (seq, records())).collect(), false);
    assert_eq!(sent(&mut order), [1, 2, 3]);
    for seq in 1..=3 {
        order.acknowledged(seq);
    }
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, (4..=10).map(|seq| (seq, records())).collect(), true);
    assert_eq!(sent(&mut order), (4..=10).collect::<Vec<_>>());
    assert!(!order.is_idle());
}

#[test]
fn an_incomplete_snapshot_proves_nothing_about_higher_numbers() {
    let mut order = SendOrder::new(MAX);
    order.lead();
    order.set_has_peers(false);
    order.register(3_000, UNIT);
    order.committed(3_000, UNIT, records());
    let started = order.begin_snapshot();
    order.snapshot(started, (1..=5).map(|seq| (seq, records())).collect(), false);
    assert_eq!(sent(&mut order), [1, 2, 3, 4, 5]);
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(6, records()), (3_000, records())], true);
    assert_eq!(sent(&mut order), [6, 3_000]);
}

#[test]
fn with_peers_nothing_passes_a_gap_without_a_snapshot() {
    let mut order = leading();
    order.set_has_peers(true);
    order.register(16, UNIT);
    order.committed(16, UNIT, records());
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(16, records())], true);
    assert_eq!(sent(&mut order), [16]);
    order.register(17, UNIT);
    order.committed(17, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(15, records()), (17, records())], true);
    assert_eq!(sent(&mut order), [15, 17]);
}

#[test]
fn a_commit_during_a_snapshot_needs_another_snapshot() {
    let mut order = leading();
    for seq in 11..=120 {
        order.register(seq, UNIT);
        order.committed(seq, UNIT, records());
    }
    order.register(121, UNIT);
    let started = order.begin_snapshot();
    order.committed(121, UNIT, records());
    order.snapshot(started, (11..=120).map(|seq| (seq, records())).collect(), true);
    assert_eq!(sent(&mut order), (11..=120).collect::<Vec<_>>());
    (10..=120).for_each(|seq| order.acknowledged(seq));
    assert!(order.needs_snapshot());
}

#[test]
fn a_commit_under_way_survives_a_change_of_leader() {
    let mut order = leading();
    order.register(11, UNIT);
    order.register(12, UNIT);
    order.follow();
    order.committed(11, UNIT, records());
    order.lead();
    order.set_has_peers(false);
    order.committed(12, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records()), (12, records())], true);
    assert_eq!(sent(&mut order), [11, 12]);
}

#[test]
fn a_number_that_is_issued_again_belongs_to_the_later_unit() {
    let (lost, later): (LaneUnit, LaneUnit) = ((1, 7, 1), (2, 8, 1));
    let outcomes: [fn(&mut SendOrder, LaneUnit); 3] = [
        |order, lost| order.rolled_back(11, lost),
        |order, lost| order.commit_unknown(11, lost),
        |order, lost| order.committed(11, lost, records()),
    ];
    for report in outcomes {
        let mut order = leading();
        order.register(11, lost);
        order.register(11, later);
        report(&mut order, lost);
        assert_eq!(sent(&mut order), [0_i64; 0], "the later unit has not committed");
        order.committed(11, later, records());
        report(&mut order, lost);
        order.register(12, later);
        order.committed(12, later, records());
        assert_eq!(sent(&mut order), [11, 12]);
    }
}

#[test]
fn after_a_crash_of_the_server_lower_numbers_prove_nothing() {
    let mut order = leading();
    order.set_has_peers(true);
    order.register(20, UNIT);
    order.committed(20, UNIT, records());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(20, records())], true);
    assert_eq!(sent(&mut order), [20]);
    order.distrust_numbers();
    order.register(16, UNIT);
    order.committed(16, UNIT, records());
    assert_eq!(sent(&mut order), [0_i64; 0], "a peer may have committed 15");
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(15, records()), (16, records())], true);
    assert_eq!(sent(&mut order), [15, 16]);
}
