//! Finds a key in JSON by a JSON pointer (RFC 6901). Reading allocates the key only.
//!
//! It reads JSON as RFC 8259 and RFC 7493 (I-JSON) define it: UTF-8, without a byte order mark. What readers
//! of JSON understand differently is refused instead of being guessed: two deliveries of one saga must never
//! get two keys, and deliveries of two sagas never one.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::comparable;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The value that a pointer finds: text as it is, integers of any length and booleans as text. None for other
/// values, and where there is nothing.
///
/// # Errors
/// The value is not JSON or is nested too deep, the pointer passes a member that occurs twice, or it finds a
/// number with a fraction or an exponent. The text says which.
pub fn json_pointer(pointer: &str, json: &[u8]) -> Result<Option<String>, String> {
    let text = std::str::from_utf8(json).map_err(|error| not_text(json, error.valid_up_to()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = At(pointer).deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
    found.map_err(|error| not_json(json, &error))?.map_err(|reason| format!("{reason}, at {pointer:?}"))
}

fn not_text(json: &[u8], valid_bytes: usize) -> String {
    framed(json)
        .unwrap_or_else(|| format!("its value is not JSON: it is not UTF-8 from byte {valid_bytes} on"))
}

fn not_json(json: &[u8], error: &serde_json::Error) -> String {
    if json.starts_with(BYTE_ORDER_MARK) {
        return "its value is not JSON: it starts with a byte order mark, which JSON does not allow"
            .to_owned();
    }
    framed(json).unwrap_or_else(|| format!("its value is not JSON: {error}"))
}

/// A value that a schema registry's serializer wrote: 0, four bytes of the schema's number, then the data.
fn framed(json: &[u8]) -> Option<String> {
    let [0, a, b, c, d, ..] = *json else { return None };
    let schema = u32::from_be_bytes([a, b, c, d]);
    Some(format!(
        "its value is framed for a schema registry (schema {schema}), and the host reads plain JSON only: \
         publish JSON without the registry's serializer"
    ))
}

/// What a pointer finds; an error says why the value is no key.
type Found = Result<Option<String>, String>;

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
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        if self.0.is_empty() {
            return scalar(<&RawValue>::deserialize(deserializer)?.get()).map_err(D::Error::custom);
        }
        deserializer.deserialize_any(self)
    }
}

/// The key that a value is, from its text.
fn scalar(json: &str) -> Result<Found, serde_json::Error> {
    Ok(match json.as_bytes() {
        [b'"', ..] => Ok(Some(comparable(serde_json::from_str(json)?))),
        [b't' | b'f', ..] => Ok(Some(json.to_owned())),
        [b'-' | b'0'..=b'9', ..] => number(json),
        _ => Ok(None),
    })
}

/// Some readers take 1.0 and 1 for one number, and some round long ones: only integers are keys, all digits.
fn number(json: &str) -> Found {
    match json {
        "-0" => Ok(Some("0".to_owned())),
        json if json.contains(['.', 'e', 'E']) => {
            let shown: String = json.chars().take(40).collect();
            Err(format!(
                "the number {shown} has a fraction or an exponent, which a key cannot have: publish the key \
                 as an integer or as text"
            ))
        }
        json => Ok(Some(json.to_owned())),
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Found;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Ok(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let step = self.step();
        let name = step.as_ref().map(|(token, _)| token.as_ref());
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(IsName(name))? {
            match (&step, wanted) {
                (Some((_, rest)), true) => {
                    let value = map.next_value_seed(*rest)?;
                    found = Some(match (found, name) {
                        (Some(_), Some(name)) => Err(format!("the member {name:?} occurs twice")),
                        _ => value,
                    });
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found.unwrap_or(Ok(None)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let step = self.step().and_then(|(token, rest)| Some((token.parse::<usize>().ok()?, rest)));
        let mut found = None;
        if let Some((index, rest)) = step {
            for _ in 0..index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(Ok(None));
                }
            }
            found = seq.next_element_seed(rest)?;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found.unwrap_or(Ok(None)))
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
    use super::json_pointer;

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
            ("/a", r#"{"b":1,"b":2,"a":3}"#, Some("3")),
            ("/a", r#"{"a":null}"#, None),
            ("/a", r#"{"a":{}}"#, None),
            ("/a", r#"{"a":[1,2]}"#, None),
            ("/a/b", r#"{"a":"text"}"#, None),
            ("/a/b", r#"{"a":1.5}"#, None),
            ("", r#""OrderConfirmed""#, Some("OrderConfirmed")),
            ("a", r#"{"a":1}"#, None),
            ("/a", r#"{"a":-0}"#, Some("0")),
            ("/a", r#"{"a":18446744073709551616}"#, Some("18446744073709551616")),
            ("/a", r#"{"a":18446744073709551617}"#, Some("18446744073709551617")),
            ("/a", r#"{"a": -123456789012345678901234567890 }"#, Some("-123456789012345678901234567890")),
        ] {
            let read = json_pointer(pointer, json.as_bytes());
            assert_eq!(read, Ok(found.map(str::to_owned)), "{pointer} in {json}");
        }
    }

    #[test]
    fn uuids_have_one_spelling() {
        let (upper, lower) = ("0193A1B2-0000-7000-8000-00000000ABCD", "0193a1b2-0000-7000-8000-00000000abcd");
        for (written, found) in [
            (upper.to_owned(), lower),
            (format!("{{{upper}}}"), lower),
            (format!("urn:uuid:{lower}"), lower),
            (format!("URN:UUID:{upper}"), lower),
            ("0193A1B20000700080000000ABCDABCD".to_owned(), "0193A1B20000700080000000ABCDABCD"),
            ("0193A1B2-0000-7000-8000-00000000ABCG".to_owned(), "0193A1B2-0000-7000-8000-00000000ABCG"),
            (format!("[{upper}]"), &*format!("[{upper}]")),
        ] {
            let json = format!(r#"{{"id":"{written}"}}"#);
            assert_eq!(json_pointer("/id", json.as_bytes()), Ok(Some(found.to_owned())), "{written}");
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        let deep = format!("{{\"a\":{}", "[".repeat(20_000));
        for (json, reason) in [
            (&br#"{"a":1"#[..], "not JSON: EOF while parsing"),
            (br#"{"a":1} more"#, "not JSON: trailing characters"),
            (b"", "not JSON: EOF while parsing"),
            (br#"{"a":01}"#, "not JSON: "),
            (br#"{"a":"\ud800"}"#, "not JSON: "),
            (b"\xef\xbb\xbf{\"a\":1}", "it starts with a byte order mark"),
            (b"\0\0\0\x01\x02{\"a\":1}", "framed for a schema registry (schema 258)"),
            (b"\0\0\0\0\x07\xff\xfe", "framed for a schema registry (schema 7)"),
            (b"\xff\xfe{\0", "it is not UTF-8 from byte 0 on"),
            (b"{\"a\":1,\"b\":\"\xff\"}", "it is not UTF-8 from byte 12 on"),
            (br#"{"a":"first","a":"last"}"#, r#"the member "a" occurs twice, at "/a""#),
            (br#"{"a":1,"\u0061":1}"#, r#"the member "a" occurs twice"#),
            (br#"{"a":1.0}"#, "the number 1.0 has a fraction or an exponent"),
            (br#"{"a":1e2}"#, "the number 1e2 has a fraction or an exponent"),
            (deep.as_bytes(), "not JSON: EOF while parsing a list"),
        ] {
            let read = json_pointer("/a", json);
            let shown = String::from_utf8_lossy(json.get(..40).unwrap_or(json));
            assert!(read.as_ref().is_err_and(|why| why.contains(reason)), "{shown}: {read:?}");
        }
    }

    #[test]
    fn a_deep_pointer_does_not_exhaust_the_stack() {
        let (deep, path) = ("[".repeat(20_000), "/0".repeat(20_000));
        assert!(json_pointer(&path, deep.as_bytes()).is_err());
    }
}
