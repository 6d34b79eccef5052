//! High-water marks: de-duplication of saga-host's own records without a row per message.
//!
//! A lane publishes its units in order. Each partition therefore carries the records of one lane in the order
//! of (epoch, unit, index), even when some of them are repeated. A record at or below the highest position
//! seen of its stream is a repeat.
//!
//! Whoever may write to a topic can write ids that look like those of a saga-host. So ids are read strictly,
//! and one that no lane can have given is never a mark.

use std::{fmt::Write, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    digits::decimal,
    identity::{INDEX_END, Identity},
};

/// How the `ce_source` of the host's own records starts; the database and the plugin follow.
const OUR_SOURCE: &[u8] = b"/saga-host/";
/// How far the clocks of two Postgres servers may be apart. An epoch is the time of a claim or lease, so one
/// that is further ahead of the reader's database was given by no lane.
const CLOCKS_APART_MS_MAX: i64 = 86_400_000;
/// More units than any lane commits in a millisecond.
const UNITS_PER_MS_MAX: i64 = 10;
/// Streams that one partition remembers, at most. Each lane slot of each database that publishes to it is one;
/// slots are used again, and few databases publish to one topic. Of more, the one is forgotten whose last
/// record is the oldest.
const STREAMS_MAX: usize = 256;

/// A record's stream and its position there. Written as `ce_id`: `IDENTITY:slot:epoch:unit:index`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupMark {
    /// `IDENTITY:slot`; `database:slot` in records from before databases had identities.
    #[serde(with = "crate::model::shared_text")]
    pub stream: Arc<str>,
    /// (epoch, unit, index)
    pub position: StreamPosition,
}

/// (epoch, unit, index) within a stream.
pub type StreamPosition = (i64, i64, u32);

impl DedupMark {
    /// The mark of a record with this `ce_source` and `ce_id`; none when no saga-host has given the id.
    #[must_use]
    pub fn of_record(source: &[u8], id: &str) -> Option<Self> {
        let source = source.strip_prefix(OUR_SOURCE)?;
        let slash = source.iter().rposition(|byte| *byte == b'/')?;
        let is_database = |name: &str| name.as_bytes() == &source[..slash] && is_name(name);
        Self::parse(id, |name| Identity::parse(name).is_some() || is_database(name))
    }

    /// One line of the stored marks.
    fn of_line(line: &str) -> Option<Self> {
        Self::parse(line, is_name)
    }

    /// Five fields: a name that `accepts` accepts, and four numbers as the host writes them.
    fn parse(id: &str, accepts: impl Fn(&str) -> bool) -> Option<Self> {
        let mut parts = id.rsplitn(5, ':');
        let index = u32::try_from(number(parts.next()?)?).ok().filter(|index| *index < INDEX_END)?;
        let unit = number(parts.next()?).filter(|unit| *unit > 0)?;
        let epoch = number(parts.next()?).filter(|epoch| *epoch > 0)?;
        // Slot 0 is that of redriven records.
        let slot =
            parts.next().filter(|slot| number(slot).is_some_and(|slot| i32::try_from(slot).is_ok()))?;
        let name = parts.next().filter(|name| accepts(name))?;
        let stream = Arc::from(id.get(..name.len() + 1 + slot.len())?);
        Some(Self { stream, position: (epoch, unit, index) })
    }

    /// The identity of the database that published the record; none where it had none yet.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Identity::parse(self.stream.rsplit_once(':')?.0)
    }

    /// Why no lane can have given this position until now, by the clock of the reader's database. To believe
    /// it would drop what the lane of that stream publishes next.
    #[must_use]
    pub fn implausible(&self, now_ms: i64) -> Option<String> {
        let (epoch, unit, _) = self.position;
        let latest = now_ms.saturating_add(CLOCKS_APART_MS_MAX);
        let given_at = self.identity().map_or(0, Identity::given_at_ms);
        let stream = &self.stream;
        if epoch > latest || given_at > latest {
            return Some(format!(
                "the message id is not from a saga-host: its stream {stream} and epoch {epoch} are more than a \
                 day ahead of this database's clock. Find out who wrote the record; redrive it to handle it as \
                 a foreign record"
            ));
        }
        let units_max = latest.saturating_sub(epoch).saturating_mul(UNITS_PER_MS_MAX);
        (unit > units_max).then(|| {
            format!(
                "the message id is not from a saga-host: no lane has committed {unit} units since its epoch \
                 {epoch} (stream {stream}). Find out who wrote the record; redrive it to handle it as a foreign \
                 record"
            )
        })
    }
}

/// A decimal number without sign and leading zeros.
fn number(text: &str) -> Option<i64> {
    let canonical = text == "0" || (!text.is_empty() && !text.starts_with('0'));
    decimal(text.as_bytes()).filter(|_| canonical).and_then(|number| i64::try_from(number).ok())
}

/// What may stand in a line of the stored marks: an identity, or the name of a database.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

/// The highest position seen of each stream in one partition, the stream with the latest record last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupMarks(Vec<(Arc<str>, StreamPosition)>);

impl DedupMarks {
    /// Raises the mark of the record's stream; false when the record is a repeat.
    pub fn raise(&mut self, mark: &DedupMark) -> bool {
        match self.0.iter().rposition(|(stream, _)| *stream == mark.stream) {
            Some(place) if self.0[place].1 >= mark.position => false,
            Some(place) => {
                self.0[place].1 = mark.position;
                self.0[place..].rotate_left(1);
                true
            }
            None => {
                if self.0.len() >= STREAMS_MAX {
                    self.0.remove(0);
                }
                self.0.push((mark.stream.clone(), mark.position));
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
        let mut marks = Self::default();
        for line in text.split('\n').filter(|_| !text.is_empty()) {
            marks.raise(&DedupMark::of_line(line)?);
        }
        Some(marks)
    }
}

#[cfg(test)]
mod tests;
