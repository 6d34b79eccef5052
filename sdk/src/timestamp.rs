//! Times as RFC 3339: read with any number of fraction digits, written in UTC with milliseconds.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY_US: i64 = 86_400_000_000;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The text is not a time as in RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTimestamp;

impl Timestamp {
    /// The time this much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The duration since an earlier time; zero where it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for NotTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a time as in RFC 3339")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(DAY_US));
        let ms = self.0.rem_euclid(DAY_US) / 1000;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// Year, month and day of a day since 1970 (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// The day since 1970 of a date, from the same source.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads numbers and separators from the front of a text.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self, digits: usize, least: i64, most: i64) -> Result<i64, NotTimestamp> {
        let (taken, rest) = self.0.split_at_checked(digits).ok_or(NotTimestamp)?;
        let mut value = 0;
        for byte in taken {
            value = value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0').ok_or(NotTimestamp)?);
        }
        self.0 = rest;
        if (least..=most).contains(&value) { Ok(value) } else { Err(NotTimestamp) }
    }

    fn one_of(&mut self, accepted: &[u8]) -> Result<u8, NotTimestamp> {
        let (first, rest) = self.0.split_first().ok_or(NotTimestamp)?;
        self.0 = rest;
        if accepted.contains(first) { Ok(*first) } else { Err(NotTimestamp) }
    }

    fn fraction_us(&mut self) -> Result<i64, NotTimestamp> {
        if self.0.first() != Some(&b'.') {
            return Ok(0);
        }
        let digits = self.0[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(NotTimestamp);
        }
        let micros = (0..6).fold(0, |value, place| {
            let digit = if place < digits { self.0[1 + place] - b'0' } else { 0 };
            value * 10 + i64::from(digit)
        });
        self.0 = &self.0[1 + digits..];
        Ok(micros)
    }

    /// Minutes east of UTC. A time without an offset is taken as UTC.
    fn offset_minutes(&mut self) -> Result<i64, NotTimestamp> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return if self.0.is_empty() { Ok(0) } else { Err(NotTimestamp) },
        };
        let hours = self.number(2, 0, 23)?;
        self.one_of(b":")?;
        let minutes = self.number(2, 0, 59)?;
        if self.0.is_empty() { Ok(sign * (hours * 60 + minutes)) } else { Err(NotTimestamp) }
    }
}

impl FromStr for Timestamp {
    type Err = NotTimestamp;

    fn from_str(text: &str) -> Result<Self, NotTimestamp> {
        let mut reader = Reader(text.as_bytes());
        let year = reader.number(4, 0, 9999)?;
        reader.one_of(b"-")?;
        let month = reader.number(2, 1, 12)?;
        reader.one_of(b"-")?;
        let day = reader.number(2, 1, 31)?;
        let date = days(year, month, day);
        if civil(date) != (year, month, day) {
            return Err(NotTimestamp);
        }
        reader.one_of(b"Tt ")?;
        let hour = reader.number(2, 0, 23)?;
        reader.one_of(b":")?;
        let minute = reader.number(2, 0, 59)?;
        reader.one_of(b":")?;
        let second = reader.number(2, 0, 60)?;
        let micros = reader.fraction_us()?;
        let minutes = hour * 60 + minute - reader.offset_minutes()?;
        Ok(Self(date * DAY_US + (minutes * 60 + second) * 1_000_000 + micros))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as in RFC 3339")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Timestamp;

    #[test]
    fn times_are_read_and_written() {
        for (read, written) in [
            ("2026-11-22T19:28:00.123Z", "2026-11-22T19:28:00.123Z"),
            ("2026-11-22T19:28:00Z", "2026-11-22T19:28:00.000Z"),
            ("2026-11-22T19:28:00.1Z", "2026-11-22T19:28:00.100Z"),
            ("2026-11-22T19:28:00.1234567Z", "2026-11-22T19:28:00.123Z"),
            ("2026-11-22T19:28:00.1234567", "2026-11-22T19:28:00.123Z"),
            ("2026-11-22T20:28:00+01:00", "2026-11-22T19:28:00.000Z"),
            ("2026-11-22T13:58:00-05:30", "2026-11-22T19:28:00.000Z"),
            ("2024-02-29t00:00:00z", "2024-02-29T00:00:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("0001-01-01T00:00:00", "0001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(read.parse::<Timestamp>().unwrap().to_string(), written, "{read}");
        }
        assert_eq!("1970-01-01T00:00:01.000002Z".parse(), Ok(Timestamp(1_000_002)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T19:28:00.Z",
            "2026-11-22T19:28:00Zz",
            "2026-11-22T19:28:00+0100",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
