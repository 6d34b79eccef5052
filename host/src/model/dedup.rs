//! High-water marks: de-duplication of saga-host's own records without a row per message.
//!
//! A lane publishes its units in order. Each partition therefore carries the records of one lane in the order
//! of (epoch, unit, index), even when some of them are repeated. A record at or below the highest position
//! seen of its stream is a repeat.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use serde::{Deserialize, Serialize};

/// A record's stream and its position there. Written as `ce_id`: `database:slot:epoch:unit:index`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupMark {
    /// `database:slot`
    #[serde(with = "crate::model::shared_text")]
    pub stream: Arc<str>,
    /// (epoch, unit, index)
    pub position: StreamPosition,
}

/// (epoch, unit, index) within a stream.
pub type StreamPosition = (i64, i64, u32);

impl DedupMark {
    /// Reads a `ce_id` that a saga-host wrote; none for another producer's id.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let mut parts = id.rsplitn(4, ':');
        let index = parts.next()?.parse().ok()?;
        let unit = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.parse().ok()?;
        let stream = parts.next()?;
        stream.contains(':').then(|| Self { stream: Arc::from(stream), position: (epoch, unit, index) })
    }
}

/// The highest position seen of every stream in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupMarks(BTreeMap<Arc<str>, StreamPosition>);

impl DedupMarks {
    /// Raises the mark of the record's stream; false when the record is a repeat.
    pub fn raise(&mut self, mark: &DedupMark) -> bool {
        match self.0.get_mut(&mark.stream) {
            Some(highest) if *highest >= mark.position => false,
            Some(highest) => {
                *highest = mark.position;
                true
            }
            None => {
                self.0.insert(mark.stream.clone(), mark.position);
                true
            }
        }
    }

    /// The text of `saga.partition_claim.dedup_marks`: one line for each stream, its highest `ce_id`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 48);
        for (stream, (epoch, unit, index)) in &self.0 {
            let separator = if text.is_empty() { "" } else { "\n" };
            let _infallible = write!(text, "{separator}{stream}:{epoch}:{unit}:{index}");
        }
        text
    }

    /// Reads what [`DedupMarks::to_text`] wrote; none when it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let marks = text.lines().map(DedupMark::parse).collect::<Option<Vec<_>>>()?;
        Some(Self(marks.into_iter().map(|mark| (mark.stream, mark.position)).collect()))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may panic")]
mod tests {
    use super::{DedupMark, DedupMarks};

    fn mark(id: &str) -> DedupMark {
        DedupMark::parse(id).expect("a mark")
    }

    #[test]
    fn repeats_are_distinguished_from_new_records() {
        let mut marks = DedupMarks::default();
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
            assert_eq!(marks.raise(&mark(id)), new, "{id}");
        }
        assert_eq!(DedupMarks::from_text(&marks.to_text()), Some(marks));
    }

    #[test]
    fn two_relays_of_one_stream_deduplicate_as_one() {
        let mut marks = DedupMarks::default();
        let merged = [1, 2, 1, 3, 2, 3, 4, 5, 4, 5];
        let new: Vec<i64> =
            merged.into_iter().filter(|unit| marks.raise(&mark(&format!("d:1:7:{unit}:0")))).collect();
        assert_eq!(new, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn foreign_ids_are_not_marks() {
        for id in ["", "9f7b", "a:b:c:d:e", "1:2:3", "x:1:2:3", "orders/3/12"] {
            assert_eq!(DedupMark::parse(id), None, "{id}");
        }
    }
}
