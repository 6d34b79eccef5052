//! The format of a stored body: an outbox row, a parked delivery, a stored answer. The log of a saga needs
//! none: it is JSON, which names its members.
//!
//! A build reads its own format and those before it. It writes its own only while every host of the database
//! reads it, and that of the release before until then. Hosts of two releases can therefore run side by side.
//!
//! ```text
//!  format 0    the content
//!  later ones  ff ff ff ff, the number of the format, the content
//! ```
//!
//! No body of format 0 starts with these four bytes: it starts with the length of a text, or with a status,
//! and neither can be that large.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::fault_point;

const MARK: [u8; 4] = [0xff; 4];
/// Bytes by which the format is known.
pub const HEADER_BYTES: usize = MARK.len() + 1;
const NEWEST: u8 = 1;
/// What the next build of the tests adds to a content.
const ADDED_BY_NEXT_BUILD: &[u8] = b"added";

/// The number of a format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Format(u8);

/// A body that this build cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A later build has written it.
    #[error("it is of format {found}, and this build reads formats up to {}", Format::newest().0)]
    Format {
        /// Its number.
        found: u8,
    },
    /// Its content does not fit its format.
    #[error("its content is damaged: {0}")]
    Damaged(String),
}

impl Format {
    /// The format of this build.
    #[must_use]
    pub fn newest() -> Self {
        Self(NEWEST + u8::from(fault_point::is_next_build()))
    }

    /// The format of the release before, which every host that may run beside this one reads.
    #[must_use]
    pub fn previous() -> Self {
        Self(Self::newest().0 - 1)
    }

    /// The newest format that this build writes while hosts run that read formats up to `reads_max`.
    fn agreed(reads_max: i32) -> Self {
        if reads_max >= i32::from(Self::newest().0) { Self::newest() } else { Self::previous() }
    }

    /// Its number, as a host states it in `saga.lane`.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.into()
    }

    /// A body of this format.
    #[must_use]
    pub fn body(self, mut content: Vec<u8>) -> Vec<u8> {
        if self.0 > NEWEST {
            content.splice(0..0, ADDED_BY_NEXT_BUILD.iter().copied());
        }
        if self.0 > 0 {
            content.splice(0..0, MARK.into_iter().chain([self.0]));
        }
        content
    }

    fn of(body: &[u8]) -> Self {
        body.strip_prefix(&MARK).and_then(<[u8]>::first).copied().map_or(Self(0), Self)
    }

    /// The format of a body, which may be cut after its first [`HEADER_BYTES`].
    ///
    /// # Errors
    /// A later build has written it.
    pub fn readable(body: &[u8]) -> Result<Self, Unreadable> {
        match Self::of(body) {
            format if format > Self::newest() => Err(Unreadable::Format { found: format.0 }),
            format => Ok(format),
        }
    }

    /// The content of a body.
    ///
    /// # Errors
    /// A later build has written it, or it is damaged.
    pub fn content(body: &[u8]) -> Result<&[u8], Unreadable> {
        let format = Self::readable(body)?;
        let content = if format.0 > 0 { body.get(HEADER_BYTES..).unwrap_or_default() } else { body };
        if format.0 > NEWEST {
            return content
                .strip_prefix(ADDED_BY_NEXT_BUILD)
                .ok_or_else(|| Unreadable::Damaged("the added member is missing".to_owned()));
        }
        Ok(content)
    }

    /// Decodes the content of a body.
    ///
    /// # Errors
    /// A later build has written it, or it is damaged.
    pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
        postcard::from_bytes(Self::content(body)?).map_err(|error| Unreadable::Damaged(error.to_string()))
    }
}

/// How long an agreement holds: hosts ask several times in that time.
const AGREED_FOR: Duration = Duration::from_secs(3);

/// The format in which a host writes to one database: that of the release before, unless it has just heard that
/// all hosts read a later one.
#[derive(Debug, Default)]
pub struct AgreedFormat(Mutex<Option<(Format, Instant)>>);

impl AgreedFormat {
    /// The format to write.
    #[must_use]
    pub fn get(&self) -> Format {
        let agreed = self.0.lock().filter(|(_, at)| at.elapsed() < AGREED_FOR);
        agreed.map_or_else(Format::previous, |(format, _)| format)
    }

    /// All hosts of the database read formats up to this one.
    pub fn set(&self, reads_max: i32) {
        *self.0.lock() = Some((Format::agreed(reads_max), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::{AgreedFormat, Format, Unreadable};

    #[test]
    fn a_body_says_its_format() {
        for format in [Format(0), Format(1)] {
            let body = format.body(vec![3, 1, 2]);
            assert_eq!(Format::of(&body), format);
            assert_eq!(Format::content(&body), Ok(&[3, 1, 2][..]));
        }
        assert_eq!(Format(0).body(vec![3, 1, 2]), [3, 1, 2]);
        assert_eq!(Format(1).body(vec![3, 1, 2]), [0xff, 0xff, 0xff, 0xff, 1, 3, 1, 2]);
        assert_eq!(Format::content(&Format(7).body(vec![3])), Err(Unreadable::Format { found: 7 }));
        assert_eq!(Format::content(&[0xff; 4]), Ok(&[0xff; 4][..]), "too short for a format");
    }

    #[test]
    fn a_build_writes_its_own_format_only_where_all_read_it() {
        let agreed = AgreedFormat::default();
        assert_eq!(agreed.get(), Format(0));
        for (reads_max, expected) in [(0, Format(0)), (1, Format(1)), (2, Format(1)), (0, Format(0))] {
            agreed.set(reads_max);
            assert_eq!(agreed.get(), expected, "{reads_max}");
        }
    }
}
