//! The identity of a database, and the sequence of the records that it publishes.
//!
//! An identity is 16 hex digits that sort by the time at which they were given, so one comparison of two
//! sequences decides which record is later: within one database the order of the commits, and between two the
//! later identity.

use std::{fmt, io::Write, str};

use super::digits::{decimal, lower_hex};

/// Hex digits of an identity.
const IDENTITY_DIGITS: usize = 16;
const SEQ_DIGITS: usize = 20;
const INDEX_DIGITS: usize = 5;
/// `IDENTITY-SEQ-INDEX`
const SEQUENCE_BYTES: usize = IDENTITY_DIGITS + 1 + SEQ_DIGITS + 1 + INDEX_DIGITS;
/// Numbers of outbox rows are lower. The Kafka client's word for a record has no room for a higher one.
const SEQ_END: u64 = 1 << 47;
/// Records of one unit, at most.
pub(crate) const INDEX_END: u32 = 1 << 16;

/// The identity of one database (`saga.database_identity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(u64);

impl Identity {
    /// Reads 16 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != IDENTITY_DIGITS {
            return None;
        }
        u64::try_from(lower_hex(text.as_bytes())?).ok().map(Self)
    }

    /// When it was given, milliseconds since 1970.
    #[must_use]
    pub fn given_at_ms(self) -> i64 {
        i64::try_from((self.0 >> 32) * 1_000).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a record of saga-host stands among all others: the value of its header `ce_sequence`, the sequence
/// extension of CloudEvents. Texts and values compare alike.
/// <https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence([u8; SEQUENCE_BYTES]);

impl Sequence {
    /// Of the record at `index` in the outbox row `seq`.
    #[must_use]
    pub fn new(identity: Identity, seq: i64, index: usize) -> Self {
        let mut text = [0; SEQUENCE_BYTES];
        // Only numbers that no outbox row has do not fit.
        let _fits = write!(&mut text[..], "{identity}-{seq:020}-{index:05}");
        Self(text)
    }

    /// Reads what [`Self::new`] makes; none for anything else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let bytes: [u8; SEQUENCE_BYTES] = value.try_into().ok()?;
        let (identity, rest) = bytes.split_at(IDENTITY_DIGITS);
        let (seq, index) = (&rest[1..=SEQ_DIGITS], &rest[SEQ_DIGITS + 2..]);
        let well_formed = rest[0] == b'-'
            && rest[SEQ_DIGITS + 1] == b'-'
            && lower_hex(identity).is_some()
            && decimal(seq).is_some_and(|seq| (1..SEQ_END).contains(&seq))
            && decimal(index).is_some_and(|index| index < INDEX_END.into());
        well_formed.then_some(Self(bytes))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a record of this stream (`IDENTITY:slot`) has it.
    #[must_use]
    pub fn is_of(&self, stream: &str) -> bool {
        let rest = stream.as_bytes().strip_prefix(&self.0[..IDENTITY_DIGITS]);
        rest.is_some_and(|rest| rest.starts_with(b":"))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may panic")]
mod tests {
    use super::{Identity, Sequence};

    fn identity(text: &str) -> Identity {
        Identity::parse(text).expect("an identity")
    }

    #[test]
    fn an_identity_is_16_lower_case_hex_digits() {
        assert_eq!(identity("6921f3c000c0ffee").to_string(), "6921f3c000c0ffee");
        assert_eq!(identity("0000000500000000").given_at_ms(), 5_000);
        for text in ["", "6921f3c0", "6921F3C000C0FFEE", "+921f3c000c0ffee", "6921f3c000c0ffee0", "x"] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sequences_sort_by_identity_then_commit_then_place() {
        let sorted = [
            ("6921f3c000c0ffee", 9, 0),
            ("6921f3c000c0ffee", 9, 65_535),
            ("6921f3c000c0ffee", 10, 0),
            ("6921f3c000c0ffee", (1 << 47) - 1, 3),
            ("6921f3c100000000", 1, 0),
        ]
        .map(|(of, seq, index)| Sequence::new(identity(of), seq, index));
        assert_eq!(sorted[2].as_str(), "6921f3c000c0ffee-00000000000000000010-00000");
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].as_str() < pair[1].as_str(), "{pair:?}");
        }
        for sequence in sorted {
            assert_eq!(Sequence::parse(sequence.as_str().as_bytes()), Some(sequence));
        }
        assert!(sorted[4].is_of("6921f3c100000000:3") && !sorted[0].is_of("6921f3c100000000:3"));
    }

    #[test]
    fn other_texts_are_no_sequence() {
        for text in [
            "",
            "17",
            "6921f3c000c0ffee-10-0",
            "6921F3C000C0FFEE-00000000000000000010-00000",
            "6921f3c000c0ffee-00000000000000000000-00000",
            "6921f3c000c0ffee-0000000000000000001x-00000",
            "6921f3c000c0ffee-00000000000000000010-99999",
            "6921f3c000c0ffee-09223372036854775807-00000",
            "6921f3c000c0ffee-0000000000-000000010-00000",
            "6921f3c000c0ffee 00000000000000000010 00000",
        ] {
            assert_eq!(Sequence::parse(text.as_bytes()), None, "{text}");
        }
    }
}
