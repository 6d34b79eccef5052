use std::time::{Duration, Instant};

use super::{ISOLATION_MIN, Isolated, Place, RETRY_PAUSE_MAX, Refusal, Verdict};

fn place() -> Place {
    ("t".to_owned(), 1)
}

/// Isolates the partition with records 1 to 3, of which the first two were in the refused batch.
fn isolated(passing: Option<&str>, now: Instant) -> Isolated {
    let mut isolated = Isolated::default();
    isolated.isolate(place(), 2, passing.map(str::to_owned), now);
    (1..=3).for_each(|position| assert!(isolated.push("t", 1, position)));
    isolated
}

fn sent(isolated: &mut Isolated, now: Instant) -> Vec<(i64, bool)> {
    isolated.take_due(now).into_iter().map(|alone| (alone.position, alone.with_present_time)).collect()
}

fn refused(refusal: Refusal) -> Result<(), (Refusal, String)> {
    Err((refusal, "why".to_owned()))
}

#[test]
fn each_suspect_is_judged_alone_and_the_rest_goes_in_batches() {
    let now = Instant::now();
    let mut isolated = isolated(None, now);
    assert!(!isolated.push("t", 2, 4) && !isolated.push("u", 1, 4));
    assert_eq!(sent(&mut isolated, now), [(1, false)]);
    assert_eq!(sent(&mut isolated, now), []);
    assert_eq!(isolated.answered(&place(), refused(Refusal::OfRecord), now), Some((1, Verdict::Park)));
    assert_eq!(isolated.release(now), []);
    assert_eq!(sent(&mut isolated, now), [(2, false)]);
    assert_eq!(isolated.answered(&place(), Ok(()), now), Some((2, Verdict::Acknowledged)));
    assert_eq!(isolated.release(now), [(place(), vec![3])]);
    assert!(isolated.is_empty() && !isolated.push("t", 1, 4));
}

#[test]
fn a_passing_error_is_retried_after_a_growing_pause_and_ends_with_an_acknowledgement() {
    let start = Instant::now();
    let mut isolated = isolated(Some("no access"), start);
    assert_eq!(isolated.waiting()[0].records, 3);
    let mut now = start;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        now = isolated.next_at().map_or(now, |at| at.max(now));
        assert_eq!(sent(&mut isolated, now), [(1, false)]);
        assert_eq!(isolated.answered(&place(), refused(Refusal::Passing), now), Some((1, Verdict::Retry)));
        assert_eq!(isolated.release(now), []);
        pauses.extend(isolated.next_at().map(|at| at - now));
    }
    assert!(pauses.is_sorted() && pauses[1] > pauses[0], "{pauses:?}");
    assert_eq!(pauses.last(), Some(&RETRY_PAUSE_MAX));
    assert_eq!((isolated.waiting()[0].reason.as_str(), isolated.waiting()[0].since), ("why", start));
    now += RETRY_PAUSE_MAX;
    for position in [1, 2] {
        assert_eq!(sent(&mut isolated, now), [(position, false)]);
        assert_eq!(isolated.answered(&place(), Ok(()), now), Some((position, Verdict::Acknowledged)));
        assert_eq!(isolated.waiting(), []);
        now += RETRY_PAUSE_MAX;
    }
    assert_eq!(isolated.release(now), [(place(), vec![3])]);
}

#[test]
fn a_refused_timestamp_is_replaced_once_then_waits() {
    let now = Instant::now();
    let mut isolated = isolated(None, now);
    assert_eq!(sent(&mut isolated, now), [(1, false)]);
    isolated.answered(&place(), refused(Refusal::OfTimestamp), now);
    assert_eq!(sent(&mut isolated, now), [(1, true)]);
    isolated.answered(&place(), refused(Refusal::OfTimestamp), now);
    assert_eq!(sent(&mut isolated, now), []);
    assert_eq!(isolated.waiting().len(), 1);
    let later = now + RETRY_PAUSE_MAX;
    assert_eq!(sent(&mut isolated, later), [(1, true)]);
    isolated.answered(&place(), Ok(()), later);
    assert_eq!(sent(&mut isolated, later), [(2, false)]);
}

#[test]
fn a_client_that_was_replaced_says_nothing_about_its_record() {
    let now = Instant::now();
    let mut isolated = isolated(None, now);
    assert_eq!(sent(&mut isolated, now), [(1, false)]);
    assert_eq!(isolated.answered(&place(), refused(Refusal::NotSent), now), Some((1, Verdict::Retry)));
    assert_eq!(isolated.waiting(), []);
    assert_eq!(sent(&mut isolated, now), [(1, false)]);
}

#[test]
fn a_partition_that_fails_again_and_again_is_held_for_longer() {
    let mut now = Instant::now();
    let mut isolated = Isolated::default();
    let mut isolations = Vec::new();
    for position in 1..=4 {
        isolated.isolate(place(), position, None, now);
        assert!(isolated.push("t", 1, position));
        sent(&mut isolated, now);
        isolated.answered(&place(), Ok(()), now);
        let until = isolated.next_at().map_or(now, |at| at.max(now));
        isolations.push(until - now);
        now = until;
        assert_eq!(isolated.release(now), [(place(), vec![])]);
    }
    assert_eq!(isolations, [Duration::ZERO, ISOLATION_MIN, ISOLATION_MIN * 2, ISOLATION_MIN * 4]);
    now += Duration::from_secs(3_600);
    isolated.isolate(place(), 9, None, now);
    assert!(isolated.next_at().is_some_and(|at| at <= now));
}

#[test]
fn a_parked_record_is_not_sent() {
    let now = Instant::now();
    let mut isolated = isolated(None, now);
    assert_eq!(sent(&mut isolated, now), [(1, false)]);
    isolated.remove(&place(), 1);
    isolated.remove(&place(), 2);
    assert_eq!(sent(&mut isolated, now), [(3, false)]);
}

#[test]
fn a_partition_in_which_nothing_waits_has_no_trouble() {
    let now = Instant::now();
    let mut isolated = Isolated::default();
    isolated.isolate(place(), 2, Some("Kafka acknowledges nothing".to_owned()), now);
    assert_eq!(isolated.waiting().len(), 1);
    assert_eq!(isolated.release(now), [(place(), vec![])]);
    assert!(isolated.is_empty() && isolated.waiting().is_empty() && isolated.next_at().is_none());
}
