#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::{CLOCKS_APART_MS_MAX, DedupMark, DedupMarks, STREAMS_MAX};

const SOURCE: &[u8] = b"/saga-host/cmd-order/order-orchestrator";
const ID: &str = "6921f3c000c0ffee";
const NOW_MS: i64 = 1_795_375_680_123;

fn mark(id: &str) -> DedupMark {
    DedupMark::of_record(SOURCE, id).unwrap()
}

#[test]
fn repeats_are_distinguished_from_new_records() {
    let mut marks = DedupMarks::default();
    for (id, new) in [
        ("1:100:1:0", true),
        ("1:100:1:1", true),
        ("1:100:1:0", false),
        ("2:100:1:0", true),
        ("1:100:2:0", true),
        ("1:100:1:1", false),
        ("1:200:1:0", true),
        ("1:100:9:9", false),
    ] {
        assert_eq!(marks.raise(&mark(&format!("{ID}:{id}"))), new, "{id}");
    }
    assert_eq!(DedupMarks::from_text(&marks.to_text()), Some(marks));
}

#[test]
fn two_databases_of_one_name_are_two_streams() {
    let mut marks = DedupMarks::default();
    let later = format!("{ID}:2:{NOW_MS}:5:0");
    let earlier = format!("6921f3bf00c0ffee:2:{}:1:0", NOW_MS - 60_000);
    assert!(marks.raise(&mark(&later)) && marks.raise(&mark(&earlier)) && !marks.raise(&mark(&earlier)));
}

#[test]
fn two_relays_of_one_stream_deduplicate_as_one() {
    let mut marks = DedupMarks::default();
    let merged = [1, 2, 1, 3, 2, 3, 4, 5, 4, 5];
    let new: Vec<i64> =
        merged.into_iter().filter(|unit| marks.raise(&mark(&format!("{ID}:1:7:{unit}:0")))).collect();
    assert_eq!(new, [1, 2, 3, 4, 5]);
}

#[test]
fn only_ids_that_a_lane_gives_are_marks() {
    let max = format!("{ID}:{}:{}:{}:65535", i32::MAX, i64::MAX, i64::MAX);
    for id in [format!("{ID}:0:1:1:0"), max, "cmd-order:1:2:3:4".to_owned()] {
        let read = mark(&id);
        let (stream, (epoch, unit, index)) = (&read.stream, read.position);
        assert_eq!(format!("{stream}:{epoch}:{unit}:{index}"), id);
    }
    for id in [
        "",
        "9f7b",
        "a:b:c:d:e",
        "1:2:3",
        "x:1:2:3",
        "orders/3/12",
        "other-database:1:2:3:4",
        "a\nb:1:2:3:4",
        "6921F3C000C0FFEE:1:2:3:4",
        "6921f3c000c0ffee:1:2:3",
        "6921f3c000c0ffee:1:2:3:4:5",
        "6921f3c000c0ffee:x:1:2:3:4",
        "6921f3c000c0ffee\n:1:2:3:4",
        "6921f3c000c0ffee: 1:2:3:4",
        "6921f3c000c0ffee:+1:2:3:4",
        "6921f3c000c0ffee:1:02:3:4",
        "6921f3c000c0ffee:1:0:3:4",
        "6921f3c000c0ffee:1:2:0:4",
        "6921f3c000c0ffee:1:2:3:65536",
        "6921f3c000c0ffee:1:2:-3:4",
        "6921f3c000c0ffee:2147483648:2:3:4",
        "6921f3c000c0ffee:1:9223372036854775808:3:4",
        "6921f3c000c0ffee:1:2:3:",
    ] {
        assert_eq!(DedupMark::of_record(SOURCE, id), None, "{id:?}");
    }
    for source in ["", "/saga-host/", "/saga-host/x", "/other/x/y", "/saga-hostx/x/y"] {
        assert_eq!(DedupMark::of_record(source.as_bytes(), &format!("{ID}:1:2:3:4")), None, "{source}");
    }
}

#[test]
fn no_record_damages_the_stored_marks() {
    let hostile = ["a\nb", "a\r", "\n", "", "a:b", "é", "\u{85}", "\0"];
    for name in hostile {
        let (source, id) = (format!("/saga-host/{name}/p"), format!("{name}:1:2:3:4"));
        let mut marks = DedupMarks::default();
        if let Some(read) = DedupMark::of_record(source.as_bytes(), &id) {
            marks.raise(&read);
        }
        assert_eq!(DedupMarks::from_text(&marks.to_text()), Some(marks), "{name:?}");
    }
}

#[test]
fn a_stored_text_is_read_whole_or_not_at_all() {
    let known = format!("{ID}:1:2:3:4\ncmd-order:1:2:3:4");
    assert_eq!(DedupMarks::from_text(&known).map(|marks| marks.to_text()), Some(known));
    assert_eq!(DedupMarks::from_text(""), Some(DedupMarks::default()));
    for damaged in ["a\nb:1:2:3:4", "\n", "x", "cmd-order:1:2:3:4\n"] {
        assert_eq!(DedupMarks::from_text(damaged), None, "{damaged:?}");
    }
}

#[test]
fn a_position_that_no_lane_can_have_reached_is_implausible() {
    let latest = NOW_MS + CLOCKS_APART_MS_MAX;
    for (id, plausible) in [
        (format!("{ID}:2:{NOW_MS}:1:0"), true),
        (format!("{ID}:2:{}:1:0", latest - 1), true),
        (format!("{ID}:2:{}:1:0", latest + 1), false),
        (format!("{ID}:2:{}:1:0", i64::MAX), false),
        (format!("{ID}:2:1:{}:0", i64::MAX), false),
        (format!("{ID}:2:{NOW_MS}:{}:0", 10 * CLOCKS_APART_MS_MAX), true),
        (format!("{ID}:2:{NOW_MS}:{}:0", 10 * CLOCKS_APART_MS_MAX + 1), false),
        ("ffffffffffffffff:2:1:1:0".to_owned(), false),
        ("cmd-order:2:1:1:0".to_owned(), true),
    ] {
        assert_eq!(mark(&id).implausible(NOW_MS).is_none(), plausible, "{id}");
    }
}

#[test]
fn a_partition_forgets_the_stream_whose_last_record_is_the_oldest() {
    let mut marks = DedupMarks::default();
    let of = |slot: usize, unit: i64| mark(&format!("{ID}:{slot}:7:{unit}:0"));
    for slot in 0..STREAMS_MAX {
        assert!(marks.raise(&of(slot, 1)));
    }
    assert!(marks.raise(&of(0, 2)) && marks.raise(&of(STREAMS_MAX, 1)));
    assert!(!marks.raise(&of(0, 2)), "raised lately");
    assert!(!marks.raise(&of(2, 1)), "among the last");
    assert!(marks.raise(&of(1, 1)), "forgotten");
    assert_eq!(marks.to_text().lines().count(), STREAMS_MAX);
    assert_eq!(DedupMarks::from_text(&marks.to_text()), Some(marks));
}
