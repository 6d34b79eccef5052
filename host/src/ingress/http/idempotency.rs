//! `Idempotency-Key`: a repeated request is handled once. The caller chooses the key; the host stores a
//! digest of the request that it was used for.
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::json_value::canonical;
use crate::{problem::Problem, unit::pending::Idempotency};

/// Name of the header.
const HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 255;
/// The first byte of a digest of values. A digest of bytes, as earlier releases have stored it, is shorter.
const OF_VALUES: u8 = 1;

/// The key of a request, if it has one, and the digest of the parts that a repeat must have in common.
///
/// # Errors
/// The problem with the header.
pub(super) fn idempotency(
    headers: &HeaderMap,
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: &[u8],
) -> Result<Option<Idempotency>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = key(value.as_bytes()).filter(|_| values.next().is_none()).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "Bad header",
            "Idempotency-Key must be sent once, with 1 to 255 visible ASCII characters, quoted or not",
        )
        .with("header", "Idempotency-Key")
    })?;
    let of_bytes = hash(method, path, query, body);
    let value = if is_json(headers) { canonical(body) } else { None };
    let of_values = match value {
        Some(value) => hash(method, path, query, value.as_bytes()),
        None => of_bytes.clone(),
    };
    let hash = [&[OF_VALUES], of_values.as_slice()].concat();
    Ok(Some(Idempotency { key, hash, hash_of_bytes: of_bytes }))
}

/// Whether the body is JSON: `application/json`, or a type that ends in `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let media_type = media_type.to_ascii_lowercase();
    media_type == b"application/json" || media_type.ends_with(b"+json")
}

/// Reads a structured-field string (RFC 9651). Many callers omit the quotes, so the key is read without them
/// too.
fn key(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let key = match value.strip_prefix(b"\"") {
        Some(rest) => unescaped(rest.strip_suffix(b"\"")?)?,
        None => value.to_vec(),
    };
    let valid = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    String::from_utf8(key).ok().filter(|_| valid)
}

fn unescaped(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => key.push(bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            _ => key.push(byte),
        }
    }
    Some(key)
}

/// The digest does not depend on the order of query parameters. The length in front of each part keeps two
/// different requests from having the same digest.
fn hash(method: &str, path: &str, query: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut sorted: Vec<_> = query.iter().collect();
    sorted.sort_by_key(|(name, _)| name);
    let pairs = sorted.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let mut digest = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes()].into_iter().chain(pairs).chain([body]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::{hash, idempotency, key};

    #[test]
    fn a_key_is_quoted_or_not_and_visible() {
        let longest = "k".repeat(255);
        for (value, expected) in [
            ("abc-1", Some("abc-1")),
            (" abc ", Some("abc")),
            ("\"abc\"", Some("abc")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (longest.as_str(), Some(longest.as_str())),
            (&"k".repeat(256), None),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("\"abc", None),
            (r#""a"b""#, None),
            (r#""a\b""#, None),
            ("a b", None),
            ("\"a b\"", None),
            ("a\u{e9}", None),
            ("a\tb", None),
        ] {
            assert_eq!(key(value.as_bytes()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_key_is_sent_once_or_not_at_all() {
        let mut headers = axum::http::HeaderMap::new();
        assert!(matches!(idempotency(&headers, "POST", "/a", &[], b""), Ok(None)));
        headers.append("idempotency-key", "k".parse().unwrap());
        assert!(matches!(idempotency(&headers, "POST", "/a", &[], b""), Ok(Some(found)) if found.key == "k"));
        headers.append("idempotency-key", "k".parse().unwrap());
        let problem = idempotency(&headers, "POST", "/a", &[], b"").unwrap_err();
        assert!(problem.detail().contains("Idempotency-Key"));
    }

    #[test]
    fn other_requests_have_other_digests() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let (ab, ba) = ([pair("a", "1"), pair("b", "2")], [pair("b", "2"), pair("a", "1")]);
        let first = hash("PATCH", "/a", &ab, b"x");
        assert_eq!(first.len(), 32);
        assert_eq!(first, hash("PATCH", "/a", &ba, b"x"));
        for other in [
            hash("POST", "/a", &ab, b"x"),
            hash("PATCH", "/b", &ab, b"x"),
            hash("PATCH", "/a", &ab[..1], b"x"),
            hash("PATCH", "/a", &ab, b""),
            hash("PATCH", "/a", &[pair("a", "12"), pair("b", "")], b"x"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn a_json_body_is_compared_by_value_and_any_other_by_its_bytes() {
        let digest = |kind: &str, body: &str| {
            let mut headers = axum::http::HeaderMap::new();
            headers.append("idempotency-key", "k".parse().unwrap());
            headers.append("content-type", kind.parse().unwrap());
            idempotency(&headers, "POST", "/a", &[], body.as_bytes()).unwrap().unwrap()
        };
        let json = "Application/JSON; charset=utf-8";
        let (first, again) = (digest(json, r#"{"a":1,"b":2}"#), digest(json, r#"{ "b": 2.0, "a": 1 }"#));
        assert!(first.hash == again.hash && first.hash_of_bytes != again.hash_of_bytes);
        assert!(first.is_of(&again.hash) && first.is_of(&first.hash_of_bytes));
        assert!(!first.is_of(&digest(json, r#"{"a":1,"b":3}"#).hash));
        assert!(!first.is_of(&again.hash_of_bytes), "an earlier release has stored other bytes");
        assert_ne!(digest("text/plain", "1").hash, digest("text/plain", "1.0").hash);
        assert_ne!(digest(json, "{").hash, digest(json, "{ ").hash);
    }
}
