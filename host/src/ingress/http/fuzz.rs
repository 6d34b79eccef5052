//! Fuzzing: the parts of a request that the host reads itself.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::{idempotency::idempotency, prefer, translate};
use crate::model::trace::Trace;

/// A request as text: the path parameters and the query in the first line, separated by a space, then one
/// header per line, an empty line, and the body.
pub fn request(data: &[u8]) {
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    let address = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (path, query) = address.split_once(' ').unwrap_or((&address, ""));
    let (headers, body) = headers(lines.next().unwrap_or_default());

    let params = translate::params(&path.split('/').collect::<Vec<_>>());
    let query = translate::query(query);
    for text in params.iter().flatten().chain(query.iter().flatten().flat_map(|(name, value)| [name, value]))
    {
        assert!(!text.contains('\0'), "Postgres cannot store what a plugin gets here");
    }
    let query = query.unwrap_or_default();
    if let Ok(Some(found)) = idempotency(&headers, "POST", path, &query, body) {
        let again = idempotency(&headers, "POST", path, &query, body).ok().flatten();
        assert_eq!(again.map(|again| (again.key, again.hash)), Some((found.key, found.hash)));
    }
    let _wait = prefer::wait(headers.get_all("prefer").iter().map(HeaderValue::as_bytes));
    if let Some(trace) = headers.get("traceparent").and_then(|value| Trace::parse(value.as_bytes())) {
        assert_eq!(Trace::parse(trace.child(7).as_bytes()).map(|child| child.id()), Some(trace.id()));
    }
    let _forwarded = translate::headers(&headers);
}

fn headers(rest: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = rest;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}
