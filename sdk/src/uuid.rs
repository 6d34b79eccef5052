//! UUIDs: read in upper or lower case, written with hyphens in lower case.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::bindings::saga::plugin::types;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const LENGTH: usize = 36;

/// A UUID (RFC 9562), ordered as its text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

/// The text is not a UUID with hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUuid;

impl fmt::Display for NotUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a hyphenated UUID")
    }
}

impl FromStr for Uuid {
    type Err = NotUuid;

    fn from_str(text: &str) -> Result<Self, NotUuid> {
        if text.len() != LENGTH {
            return Err(NotUuid);
        }
        let mut value: u128 = 0;
        for (place, character) in text.chars().enumerate() {
            match character.to_digit(16) {
                Some(digit) if !HYPHENS.contains(&place) => value = value << 4 | u128::from(digit),
                None if character == '-' && HYPHENS.contains(&place) => {}
                _ => return Err(NotUuid),
            }
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; LENGTH];
        let mut shift = 128;
        for (place, character) in text.iter_mut().enumerate() {
            if !HYPHENS.contains(&place) {
                shift -= 4;
                *character = DIGITS[(self.0 >> shift & 0xf) as usize];
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Uuid;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a hyphenated UUID")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl From<types::Uuid> for Uuid {
    fn from(halves: types::Uuid) -> Self {
        Self(u128::from(halves.hi) << 64 | u128::from(halves.lo))
    }
}

impl From<Uuid> for types::Uuid {
    #[expect(clippy::cast_possible_truncation, reason = "each half is what it takes")]
    fn from(uuid: Uuid) -> Self {
        Self { hi: (uuid.0 >> 64) as u64, lo: uuid.0 as u64 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Uuid;
    use crate::bindings::saga::plugin::types;

    const TEXT: &str = "0193a1b2-c3d4-7000-8000-00000000abcd";

    #[test]
    fn any_case_is_read_and_lower_case_written() {
        for text in [TEXT.to_owned(), TEXT.to_uppercase()] {
            assert_eq!(text.parse::<Uuid>().unwrap().to_string(), TEXT);
        }
        assert_eq!(serde_json::to_string(&TEXT.parse::<Uuid>().unwrap()).unwrap(), format!("\"{TEXT}\""));
    }

    #[test]
    fn halves_make_the_uuid() {
        let uuid: Uuid = TEXT.parse().unwrap();
        assert_eq!(types::Uuid::from(uuid).hi, 0x0193_a1b2_c3d4_7000);
        assert_eq!(Uuid::from(types::Uuid::from(uuid)), uuid);
    }

    #[test]
    fn other_texts_are_refused() {
        let short = &TEXT[1..];
        let spaced = TEXT.replace('-', " ");
        let plus = TEXT.replacen('0', "+", 1);
        let wide = format!("{}é", &TEXT[..34]);
        for text in ["", "abc", "\0", short, &spaced, &plus, &wide, "0193a1b2-0000-7000-8000-00000000abcg"] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
