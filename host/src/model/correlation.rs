//! The key that orders deliveries and finds their saga. The host extracts it from where the subscription
//! says, before any guest code runs. UUIDs are compared in lower case.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest, Sha256};

use super::manifest::Correlation;

/// Longer keys are replaced by their digest: an index entry of Postgres holds at most 2,700 bytes.
const KEY_BYTES_MAX: usize = 256;

/// The key that `correlation` points at, as [`indexable`] makes it.
#[must_use]
pub fn correlate(
    correlation: &Correlation,
    key: Option<&[u8]>,
    headers: &[(String, Vec<u8>)],
    payload: Option<&[u8]>,
) -> Option<String> {
    let found = match correlation {
        Correlation::RecordKey => text(key?),
        Correlation::Header(name) => text(&headers.iter().find(|(present, _)| present == name)?.1),
        Correlation::Json(pointer) => json_pointer(pointer, payload?),
        Correlation::Unordered => None,
    };
    found.map(indexable)
}

/// The key in a form that Postgres can store and index: NUL is replaced, and a key of more than 256 bytes by
/// `sha256:` and its hex digest.
#[must_use]
pub fn indexable(mut key: String) -> String {
    if key.contains('\0') {
        key = key.replace('\0', "\u{fffd}");
    }
    if key.len() > KEY_BYTES_MAX {
        key = format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes())));
    }
    key
}

/// The value that a JSON pointer (RFC 6901) finds: text as it is, numbers and booleans as text. None for
/// other values, and for JSON that is malformed or nested too deep. Reading allocates the value only.
#[must_use]
pub fn json_pointer(pointer: &str, json: &[u8]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = At(pointer).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    found.map(comparable)
}

/// Bytes as text; in hex where they are not UTF-8, so that every key can order.
fn text(bytes: &[u8]) -> Option<String> {
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => comparable(text.to_owned()),
        Err(_) => hex::encode(bytes),
    })
}

/// UUIDs in lower case.
fn comparable(mut text: String) -> String {
    let hyphen = |place| matches!(place, 8 | 13 | 18 | 23);
    let digits =
        |(place, byte): (usize, u8)| if hyphen(place) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    if text.len() == 36 && text.bytes().enumerate().all(digits) {
        text.make_ascii_lowercase();
    }
    text
}

/// The rest of a pointer, from the value that is read next.
#[derive(Clone, Copy)]
struct At<'p>(&'p str);

impl<'p> At<'p> {
    /// The next token and the rest; none at the end of the pointer, or without a leading slash.
    fn step(self) -> Option<(Cow<'p, str>, Self)> {
        let path = self.0.strip_prefix('/')?;
        let end = path.find('/').unwrap_or(path.len());
        let (token, rest) = path.split_at(end);
        let token = match token.contains('~') {
            true => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
            false => Cow::Borrowed(token),
        };
        Some((token, Self(rest)))
    }

    fn scalar(self, text: impl ToString) -> Option<String> {
        self.0.is_empty().then(|| text.to_string())
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.scalar(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let step = self.step();
        let name = step.as_ref().map(|(token, _)| token.as_ref());
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(IsName(name))? {
            match (&step, wanted) {
                (Some((_, rest)), true) => found = map.next_value_seed(*rest)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let step = self.step().and_then(|(token, rest)| Some((token.parse::<usize>().ok()?, rest)));
        let mut found = None;
        if let Some((index, rest)) = step {
            for _ in 0..index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = seq.next_element_seed(rest)?.flatten();
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Whether a member's name is the wanted one; names are not kept.
struct IsName<'p>(Option<&'p str>);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{correlate, indexable, json_pointer};
    use crate::model::manifest::Correlation;

    #[test]
    fn a_pointer_finds_scalars_only() {
        for (pointer, json, found) in [
            ("/orderId", r#"{"qty":1,"orderId":"a","x":[{}]}"#, Some("a")),
            ("/orderId", r#"{"a":{"orderId":"inner"}}"#, None),
            ("/a/b", r#"{"b":1,"a":{"c":[1],"b":7}}"#, Some("7")),
            ("/a/1/b", r#"{"a":[0,{"b":true},[2]]}"#, Some("true")),
            ("/a/2", r#"{"a":[0,1]}"#, None),
            ("/a~1b/c~0d", r#"{"a/b":{"c~d":-5}}"#, Some("-5")),
            ("/a", r#"{"\u0061":"escaped"}"#, Some("escaped")),
            ("/a", r#"{"a":"first","a":"last"}"#, Some("last")),
            ("/a", r#"{"a":null}"#, None),
            ("/a", r#"{"a":{}}"#, None),
            ("/a", r#"{"a":[1,2]}"#, None),
            ("/a/b", r#"{"a":"text"}"#, None),
            ("", r#""OrderConfirmed""#, Some("OrderConfirmed")),
            ("a", r#"{"a":1}"#, None),
            ("/a", r#"{"a":1"#, None),
            ("/a", r#"{"a":1} more"#, None),
            ("/a", "", None),
            (
                "/id",
                r#"{"id":"0193A1B2-0000-7000-8000-00000000ABCD"}"#,
                Some("0193a1b2-0000-7000-8000-00000000abcd"),
            ),
            (
                "/id",
                r#"{"id":"0193A1B2-0000-7000-8000-00000000ABCG"}"#,
                Some("0193A1B2-0000-7000-8000-00000000ABCG"),
            ),
        ] {
            assert_eq!(json_pointer(pointer, json.as_bytes()).as_deref(), found, "{pointer} in {json}");
        }
    }

    #[test]
    fn a_deep_document_does_not_exhaust_the_stack() {
        let deep = "[".repeat(20_000);
        assert_eq!(json_pointer("/a", deep.as_bytes()), None);
        let path = "/0".repeat(20_000);
        assert_eq!(json_pointer(&path, deep.as_bytes()), None);
        assert_eq!(json_pointer("/a", format!("{{\"a\":{deep}").as_bytes()), None);
    }

    #[test]
    fn each_kind_of_correlation() {
        let headers = [("order".to_owned(), b"H".to_vec())];
        let found = |correlation| correlate(&correlation, Some(b"K"), &headers, Some(br#"{"a":"P"}"#));
        assert_eq!(found(Correlation::RecordKey).as_deref(), Some("K"));
        assert_eq!(found(Correlation::Header("order".into())).as_deref(), Some("H"));
        assert_eq!(found(Correlation::Header("other".into())), None);
        assert_eq!(found(Correlation::Json("/a".into())).as_deref(), Some("P"));
        assert_eq!(found(Correlation::Unordered), None);
        assert_eq!(correlate(&Correlation::RecordKey, Some(&[0xff]), &[], None).as_deref(), Some("ff"));
        assert_eq!(correlate(&Correlation::RecordKey, None, &[], None), None);
        assert_eq!(correlate(&Correlation::RecordKey, Some(b"x\0"), &[], None).as_deref(), Some("x\u{fffd}"));
    }

    #[test]
    fn a_long_key_becomes_its_digest() {
        assert_eq!(indexable("k".repeat(256)), "k".repeat(256));
        let long = indexable("k".repeat(257));
        assert_eq!((long.len(), long.get(..7)), (71, Some("sha256:")));
        assert_ne!(long, indexable("k".repeat(258)));
        let found = correlate(&Correlation::RecordKey, Some("k".repeat(257).as_bytes()), &[], None);
        assert_eq!(found, Some(long));
    }
}
