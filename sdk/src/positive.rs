//! Whole numbers from 1 to 2147483647: ids and quantities of the order system.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// How an error describes a [`Positive`].
pub const EXPECTED: &str = "a whole number from 1 to 2147483647";

/// A whole number from 1 to 2147483647. In JSON it must be an integer: `1.0`, `1e3` and `"1"` are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Positive(i32);

impl Positive {
    /// `None` for a number out of range.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (number >= 1).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    /// Reads decimal digits: no sign, no leading zero.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        Self::new(text.parse().ok().filter(|_| plain)?)
    }
}

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Positive;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Positive, E> {
                let positive = i32::try_from(number).ok().and_then(Positive::new);
                positive.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Positive, E> {
                let positive = i32::try_from(number).ok().and_then(Positive::new);
                positive.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Positive;

    #[test]
    fn only_json_integers_in_range() {
        for (text, expected) in
            [("1", Some(1)), ("2147483647", Some(i32::MAX)), ("0", None), ("-1", None)].into_iter().chain(
                [
                    "2147483648",
                    "9223372036854775808",
                    "1e40",
                    "1e3",
                    "1.0",
                    "1.5",
                    "-0",
                    "\"1\"",
                    "true",
                    "null",
                    "[1]",
                ]
                .map(|text| (text, None)),
            )
        {
            assert_eq!(serde_json::from_str::<Positive>(text).ok().map(Positive::get), expected, "{text}");
        }
    }

    #[test]
    fn only_plain_digits() {
        for (text, expected) in
            [("7", Some(7)), ("2147483647", Some(i32::MAX)), ("0", None), ("", None)].into_iter().chain(
                ["+7", "-7", "07", "7.0", " 7", "abc", "2147483648", "99999999999999999999"]
                    .map(|t| (t, None)),
            )
        {
            assert_eq!(Positive::parse(text).map(Positive::get), expected, "{text}");
        }
    }
}
