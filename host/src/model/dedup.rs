//! High-water marks: de-duplication of our own records without a row per message.
//!
//! A lane publishes its units in order, so each partition carries the records of one lane in the
//! order of (epoch, unit, index), however often some of them are repeated. The highest place seen
//! tells a repeat from a new record.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use serde::{Deserialize, Serialize};

/// The place of a record: the stream that it belongs to and its position in it. Written as
/// `ce_id`: `database:slot:epoch:unit:index`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// `database:slot`
    #[serde(with = "crate::model::shared_text")]
    pub stream: Arc<str>,
    /// (epoch, unit, index)
    pub place: Place,
}

/// (epoch, unit, index) within a stream.
pub type Place = (i64, i64, u32);

impl Mark {
    /// Reads a `ce_id` of ours.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.rsplitn(4, ':');
        let index = parts.next()?.parse().ok()?;
        let unit = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.parse().ok()?;
        let stream = parts.next()?;
        stream.contains(':').then(|| Self { stream: Arc::from(stream), place: (epoch, unit, index) })
    }
}

/// The highest place seen of every stream in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Arc<str>, Place>);

impl Seen {
    /// Notes a record; false when it, or a later one of its stream, was noted before.
    pub fn note(&mut self, mark: &Mark) -> bool {
        match self.0.get_mut(&mark.stream) {
            Some(highest) if *highest >= mark.place => false,
            Some(highest) => {
                *highest = mark.place;
                true
            }
            None => {
                self.0.insert(mark.stream.clone(), mark.place);
                true
            }
        }
    }

    /// The text that `saga.source.seen` holds: the highest `ce_id` of each stream, by line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 48);
        for (stream, (epoch, unit, index)) in &self.0 {
            let separator = if text.is_empty() { "" } else { "\n" };
            let _infallible = write!(text, "{separator}{stream}:{epoch}:{unit}:{index}");
        }
        text
    }

    /// Reads what [`Seen::to_text`] wrote; none when it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let marks = text.lines().map(Mark::parse).collect::<Option<Vec<_>>>()?;
        Some(Self(marks.into_iter().map(|mark| (mark.stream, mark.place)).collect()))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may panic")]
mod tests {
    use super::{Mark, Seen};

    fn mark(id: &str) -> Mark {
        Mark::parse(id).expect("a mark")
    }

    #[test]
    fn repeats_and_stragglers_are_told_from_new_records() {
        let mut seen = Seen::default();
        for (id, new) in [
            ("cmd-order:1:100:1:0", true),
            ("cmd-order:1:100:1:1", true),
            ("cmd-order:1:100:1:0", false),
            ("cmd-order:2:100:1:0", true),
            ("cmd-order:1:100:2:0", true),
            ("cmd-order:1:100:1:1", false),
            ("cmd-order:1:200:1:0", true),
            ("cmd-order:1:100:9:9", false),
        ] {
            assert_eq!(seen.note(&mark(id)), new, "{id}");
        }
        assert_eq!(Seen::from_text(&seen.to_text()), Some(seen));
    }

    #[test]
    fn two_relays_of_one_stream_pass_as_one() {
        let mut seen = Seen::default();
        let merged = [1, 2, 1, 3, 2, 3, 4, 5, 4, 5];
        let new: Vec<i64> =
            merged.into_iter().filter(|unit| seen.note(&mark(&format!("d:1:7:{unit}:0")))).collect();
        assert_eq!(new, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn foreign_ids_are_not_marks() {
        for id in ["", "9f7b", "a:b:c:d:e", "1:2:3", "x:1:2:3", "orders/3/12"] {
            assert_eq!(Mark::parse(id), None, "{id}");
        }
    }
}
