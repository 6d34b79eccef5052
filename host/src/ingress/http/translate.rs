//! Translates between HTTP and a plugin's request and response: decodes paths and queries, and removes
//! headers that belong to the connection or to the host.

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, response::Response as HttpResponse},
};
use percent_encoding::percent_decode_str;

use crate::{model::request::Response, problem::Problem};

/// Headers of the connection and of the body's transfer (RFC 9110, section 7.6.1), and those that the host
/// sets.
const HOST_HEADERS: [&str; 12] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The parameters of a path, decoded.
///
/// # Errors
/// The problem with one of them.
pub(super) fn params(values: &[&str]) -> Result<Vec<String>, Problem> {
    values
        .iter()
        .map(|value| decode(value).ok_or_else(|| undecodable(format!("{value} in the path"))))
        .collect()
}

/// The parameters of a query, decoded, in order. `+` is a space.
///
/// # Errors
/// The problem with one of them.
pub(super) fn query(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(&spaced(name)).zip(decode(&spaced(value)));
            decoded.ok_or_else(|| undecodable(format!("the query parameter {name}")).with("parameter", name))
        })
        .collect()
}

fn spaced(text: &str) -> Cow<'_, str> {
    if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) }
}

/// None for text that is not UTF-8 or contains NUL, which Postgres cannot store.
fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.contains('\0')).then(|| decoded.into_owned())
}

fn undecodable(what: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "Bad address", format!("{what} is not percent-encoded UTF-8 text"))
}

/// The headers that a plugin sees, names in lower case.
#[must_use]
pub(super) fn headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let theirs = headers.iter().filter(|(name, _)| !HOST_HEADERS.contains(&name.as_str()));
    theirs.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// A plugin's response as an HTTP response.
///
/// # Errors
/// Why it is not a valid HTTP response: the plugin's fault.
pub(super) fn response(response: Response) -> Result<HttpResponse<Body>, String> {
    let status =
        StatusCode::from_u16(response.status).ok().filter(|status| (200..500).contains(&status.as_u16()));
    let status =
        status.ok_or_else(|| format!("the plugin answered with the invalid status {}", response.status))?;
    let bodiless =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let mut answer = HttpResponse::new(if bodiless { Body::empty() } else { Body::from(response.body) });
    *answer.status_mut() = status;
    for (name, value) in response.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) =
            header.ok_or_else(|| format!("the plugin's header {name:?} is not a valid HTTP header"))?;
        if !HOST_HEADERS.contains(&name.as_str()) {
            answer.headers_mut().append(name, value);
        }
    }
    Ok(answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use axum::http::HeaderMap;

    use super::{Response, headers, params, query, response};

    #[test]
    fn addresses_are_decoded() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(params(&["A%2Fb", "1+2", "%zz"]).unwrap(), ["A/b", "1+2", "%zz"]);
        assert_eq!(
            query("a=1&b=x+y%2B&&c&a=%C3%A9=2&=v").unwrap(),
            [pair("a", "1"), pair("b", "x y+"), pair("c", ""), pair("a", "\u{e9}=2"), pair("", "v")]
        );
        assert_eq!(query("").unwrap(), []);
    }

    #[test]
    fn undecodable_text_is_refused_by_name() {
        assert_eq!(params(&["%ff"]).unwrap_err().status, 400);
        for bad in ["cursor=%00", "limit=1&cursor=%ff%fe", "cursor%ff=1"] {
            assert!(query(bad).unwrap_err().detail().contains("cursor"), "{bad}");
        }
    }

    #[test]
    fn a_plugin_sees_no_headers_of_the_host() {
        let mut all = HeaderMap::new();
        for name in ["Content-Type", "Transfer-Encoding", "traceparent", "Accept"] {
            all.append(name, "x".parse().unwrap());
        }
        assert_eq!(headers(&all), [("content-type".into(), b"x".to_vec()), ("accept".into(), b"x".to_vec())]);
    }

    #[test]
    fn an_answer_must_be_valid_http() {
        let with = |status, name: &str, value: &str| {
            let headers = vec![(name.to_owned(), value.as_bytes().to_vec())];
            response(Response { status, headers, body: b"{}".to_vec(), saga: None })
        };
        let answer = with(201, "location", "/a").unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["location"].as_bytes()), (201, &b"/a"[..]));
        assert!(with(200, "content-length", "99").unwrap().headers().is_empty());
        for (status, name, value) in
            [(0, "a", "b"), (101, "a", "b"), (500, "a", "b"), (200, "a b", "c"), (200, "a", "\n")]
        {
            assert!(with(status, name, value).is_err(), "{status} {name} {value:?}");
        }
    }
}
