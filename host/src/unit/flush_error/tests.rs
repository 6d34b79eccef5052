#![allow(clippy::panic, reason = "a test may panic")]

use super::{UnitWrites, conflict, is_racing_answer};
use crate::{
    model::fault::{Fault, ParkedUntil},
    unit::rows::{SagaEndRow, SagaStartRow, SagaStepRow},
};

/// Starts `order/a` and `order/b` for the deliveries 0 and 1, moves `order/c` on for 2, ends `order/d` for 3.
fn writes() -> UnitWrites {
    let (saga_type, data, log) = (|| "order".to_owned(), || "{}".to_owned(), String::new);
    let start = |key: &str| SagaStartRow {
        saga_type: saga_type(),
        key: key.into(),
        digest: String::new(),
        state: "S".into(),
        data: data(),
        next_at_us: 0,
        log: log(),
    };
    let step = SagaStepRow {
        saga_type: saga_type(),
        key: "c".into(),
        expected_revision: 3,
        new_revision: 4,
        state: "S".into(),
        data: None,
        next_at_us: 0,
        overdue: false,
        log: log(),
        digest: None,
    };
    let end = SagaEndRow {
        saga_type: saga_type(),
        key: "d".into(),
        expected_revision: 5,
        new_revision: 6,
        state: "S".into(),
        data: None,
        ending: "completed",
        answer: None,
        log: log(),
    };
    let mut writes = UnitWrites::default();
    writes.saga_starts.push(0, start("a"));
    writes.saga_starts.push(1, start("b"));
    writes.saga_steps.push(2, step);
    writes.saga_ends.push(3, end);
    writes
}

#[test]
fn a_conflict_names_its_culprits() {
    use ParkedUntil::{Backoff, Redriven};
    for (sqlstate, detail, expected) in [
        ("SG101", "order/b", vec![(1, Redriven, "saga-conflict: saga order/b exists")]),
        (
            "SG102",
            "order/c: expected revision 3, actual revision 4",
            vec![(2, Backoff, "saga-conflict: saga order/c: expected revision 3, actual revision 4")],
        ),
        (
            "SG102",
            "order/d: expected revision 5, actual revision none",
            vec![(3, Backoff, "saga-conflict: saga order/d: expected revision 5, actual revision none")],
        ),
    ] {
        let fault = conflict(sqlstate, detail, &writes());
        let culprits = if let Some(Fault::Culprits(culprits)) = fault { culprits } else { Vec::new() };
        let found: Vec<_> = culprits.iter().map(|c| (c.cause, c.until, c.reason.as_str())).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_conflict_over_an_unreadable_key_is_the_guests() {
    let fault = conflict("SG102", "order/new\nline: expected revision 1, actual revision 2", &writes());
    assert!(matches!(fault, Some(Fault::Guest(reason)) if reason.starts_with("saga-conflict: order/new")));
}

#[test]
fn nothing_else_is_a_lost_race() {
    for sqlstate in ["SG100", "SG103", "23505", "40001", "57014", "42501"] {
        assert!(conflict(sqlstate, "order/a", &writes()).is_none(), "{sqlstate}");
    }
}

#[test]
fn only_a_stored_answer_races() {
    for (sqlstate, table, races) in [
        ("23505", Some("stored_answer_20261125"), true),
        ("23505", Some("saga_done_20261125"), false),
        ("23505", None, false),
        ("23502", Some("stored_answer_20261125"), false),
    ] {
        assert_eq!(is_racing_answer(sqlstate, table), races, "{sqlstate} {table:?}");
    }
}
