//! The key that orders deliveries and finds their saga. The host extracts it from where the subscription
//! says, before any guest code runs. UUIDs are compared in one spelling: hyphenated, lower case.

mod json;

use sha2::{Digest, Sha256};

pub use self::json::json_pointer;
use super::manifest::Correlation;

/// Longer keys are replaced by their digest: an index entry of Postgres holds at most 2,700 bytes.
const KEY_BYTES_MAX: usize = 256;

/// Names and values of a record's headers.
pub type Headers = Vec<(String, Vec<u8>)>;

/// The key that `correlation` points at, as [`indexable`] makes it; none where the record has nothing there.
///
/// # Errors
/// What is wrong with the record: it has no JSON where the key should be, or a value that could be read as
/// more than one key.
pub fn correlate(
    correlation: &Correlation,
    key: Option<&[u8]>,
    headers: &[(String, Vec<u8>)],
    payload: Option<&[u8]>,
) -> Result<Option<String>, String> {
    let found = match correlation {
        Correlation::RecordKey => key.map(text),
        Correlation::Header(name) => {
            headers.iter().find(|(present, _)| present == name).map(|(_, value)| text(value))
        }
        Correlation::Json(pointer) => match payload {
            Some(payload) => json_pointer(pointer, payload)?,
            None => None,
        },
        Correlation::Unordered => None,
    };
    Ok(found.map(indexable))
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

/// Bytes as text; in hex where they are not UTF-8, so that every key can order.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => comparable(text.to_owned()),
        Err(_) => hex::encode(bytes),
    }
}

/// UUIDs in lower case, without braces and without `urn:uuid:`. 32 digits without hyphens stay as they are:
/// they may be something else, such as a hash.
fn comparable(mut text: String) -> String {
    if is_uuid(&text) {
        text.make_ascii_lowercase();
        return text;
    }
    let bare = match text.strip_prefix('{') {
        Some(braced) => braced.strip_suffix('}'),
        None if text.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("urn:uuid:")) => text.get(9..),
        None => None,
    };
    bare.filter(|bare| is_uuid(bare)).map(str::to_ascii_lowercase).unwrap_or(text)
}

/// Whether it is a hyphenated UUID, in any case.
fn is_uuid(text: &str) -> bool {
    let hyphen = |place| matches!(place, 8 | 13 | 18 | 23);
    let digits =
        |(place, byte): (usize, u8)| if hyphen(place) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(digits)
}

#[cfg(test)]
mod tests {
    use super::{correlate, indexable};
    use crate::model::manifest::Correlation;

    #[test]
    fn each_kind_of_correlation() {
        let headers = [("order".to_owned(), b"H".to_vec())];
        let found = |correlation| {
            correlate(&correlation, Some(b"K"), &headers, Some(br#"{"a":"P"}"#)).unwrap_or_default()
        };
        assert_eq!(found(Correlation::RecordKey).as_deref(), Some("K"));
        assert_eq!(found(Correlation::Header("order".into())).as_deref(), Some("H"));
        assert_eq!(found(Correlation::Header("other".into())), None);
        assert_eq!(found(Correlation::Json("/a".into())).as_deref(), Some("P"));
        assert_eq!(found(Correlation::Unordered), None);
        let of_key =
            |key: Option<&[u8]>| correlate(&Correlation::RecordKey, key, &[], None).unwrap_or_default();
        assert_eq!(of_key(Some(&[0xff])).as_deref(), Some("ff"));
        assert_eq!(of_key(None), None);
        assert_eq!(of_key(Some(b"x\0")).as_deref(), Some("x\u{fffd}"));
        let json = Correlation::Json("/a".into());
        assert_eq!(correlate(&json, Some(b"K"), &[], None), Ok(None), "a tombstone has no value");
        assert!(correlate(&json, Some(b"K"), &[], Some(b"text")).is_err());
    }

    #[test]
    fn a_long_key_becomes_its_digest() {
        assert_eq!(indexable("k".repeat(256)), "k".repeat(256));
        let long = indexable("k".repeat(257));
        assert_eq!((long.len(), long.get(..7)), (71, Some("sha256:")));
        assert_ne!(long, indexable("k".repeat(258)));
        let found = correlate(&Correlation::RecordKey, Some("k".repeat(257).as_bytes()), &[], None);
        assert_eq!(found, Ok(Some(long)));
    }
}
