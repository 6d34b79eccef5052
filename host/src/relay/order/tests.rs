use std::sync::Arc;

use super::{ReadyMax, Records, SendOrder};
use crate::model::record::Record;

const MAX: ReadyMax = ReadyMax { units: 100, bytes: 1 << 20 };

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
    order.register(10);
    order.committed(10, records());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(10, records())], true);
    assert_eq!(sent(&mut order), [10]);
    order
}

#[test]
fn a_lower_unit_that_is_committing_is_sent_first() {
    let mut order = leading();
    order.register(11);
    order.register(12);
    order.committed(12, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    order.committed(11, records());
    assert_eq!(sent(&mut order), [11, 12]);
}

#[test]
fn a_rollback_leaves_no_gap() {
    let mut order = leading();
    order.register(11);
    order.rolled_back(11);
    order.register(12);
    order.committed(12, records());
    assert_eq!(sent(&mut order), [12]);
}

#[test]
fn a_snapshot_fills_a_gap_with_what_must_be_sent_first() {
    let mut order = leading();
    order.register(12);
    order.committed(12, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records()), (12, records())], true);
    assert_eq!(sent(&mut order), [11, 12]);
}

#[test]
fn a_late_lower_unit_is_sent_when_a_snapshot_shows_it() {
    let mut order = leading();
    order.register(12);
    order.committed(12, records());
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
    order.register(11);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records())], true);
    assert_eq!(sent(&mut order), [11]);
    order.committed(11, records());
    order.acknowledged(11);
    order.committed(11, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
}

#[test]
fn what_a_new_client_has_to_send_is_in_order() {
    let mut order = leading();
    for seq in 11..14 {
        order.register(seq);
        order.committed(seq, records());
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
        order.register(seq);
        order.committed(seq, large(LARGE));
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
        order.register(seq);
        order.committed(seq, records());
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
    order.register(3_000);
    order.committed(3_000, records());
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
    order.register(16);
    order.committed(16, records());
    assert!(order.needs_snapshot());
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(16, records())], true);
    assert_eq!(sent(&mut order), [16]);
    order.register(17);
    order.committed(17, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(15, records()), (17, records())], true);
    assert_eq!(sent(&mut order), [15, 17]);
}

#[test]
fn a_commit_during_a_snapshot_needs_another_snapshot() {
    let mut order = leading();
    for seq in 11..=120 {
        order.register(seq);
        order.committed(seq, records());
    }
    order.register(121);
    let started = order.begin_snapshot();
    order.committed(121, records());
    order.snapshot(started, (11..=120).map(|seq| (seq, records())).collect(), true);
    assert_eq!(sent(&mut order), (11..=120).collect::<Vec<_>>());
    (10..=120).for_each(|seq| order.acknowledged(seq));
    assert!(order.needs_snapshot());
}

#[test]
fn a_commit_under_way_survives_a_change_of_leader() {
    let mut order = leading();
    order.register(11);
    order.register(12);
    order.follow();
    order.committed(11, records());
    order.lead();
    order.set_has_peers(false);
    order.committed(12, records());
    assert_eq!(sent(&mut order), [0_i64; 0]);
    let started = order.begin_snapshot();
    order.snapshot(started, vec![(11, records()), (12, records())], true);
    assert_eq!(sent(&mut order), [11, 12]);
}
