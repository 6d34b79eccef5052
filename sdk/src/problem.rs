//! Problem details (RFC 9457): how a request is refused.

use serde::Serialize;

use crate::input::Response;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    detail: String,
    at: Option<InvalidInput>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
/// The part of the request that is not valid.
enum InvalidInput {
    Member(String),
    Parameter(String),
}

impl Problem {
    /// A problem of this status; `detail` is for people.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), at: None }
    }

    /// 404: there is nothing at this address.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 400: a member of the body does not fit.
    #[must_use]
    pub fn member(name: &str, reason: &str) -> Self {
        Self {
            status: 400,
            detail: format!("{name}: {reason}"),
            at: Some(InvalidInput::Member(name.to_owned())),
        }
    }

    /// 400: a query parameter does not fit.
    #[must_use]
    pub fn parameter(name: &str, expected: &str) -> Self {
        let detail = format!("{name}: expected {expected}");
        Self { status: 400, detail, at: Some(InvalidInput::Parameter(name.to_owned())) }
    }
}

/// The body, and one entry of `errors` as in RFC 9457, section 3.
#[derive(Serialize)]
struct Details<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[Error<'a>; 1]>,
}

#[derive(Serialize)]
struct Error<'a> {
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let error = |pointer, parameter| [Error { detail: &problem.detail, pointer, parameter }];
        let errors = problem.at.as_ref().map(|at| match at {
            InvalidInput::Member(name) => error(Some(format!("#/{}", name.replace('.', "/"))), None),
            InvalidInput::Parameter(name) => error(None, Some(name)),
        });
        let title = title(problem.status);
        let details =
            Details { kind: "about:blank", title, status: problem.status, detail: &problem.detail, errors };
        Response::json(problem.status, &details).with_header("content-type", "application/problem+json")
    }
}

/// Reason phrases of RFC 9110.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        410 => "Gone",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::Problem;
    use crate::input::Response;

    #[test]
    fn a_problem_names_what_is_not_valid() {
        for (problem, expected) in [
            (
                Problem::member("orderQty", "missing"),
                concat!(
                    r#"{"type":"about:blank","title":"Bad Request","status":400,"#,
                    r#""detail":"orderQty: missing","#,
                    r##""errors":[{"detail":"orderQty: missing","pointer":"#/orderQty"}]}"##,
                ),
            ),
            (
                Problem::parameter("limit", "a number"),
                concat!(
                    r#"{"type":"about:blank","title":"Bad Request","status":400,"#,
                    r#""detail":"limit: expected a number","#,
                    r#""errors":[{"detail":"limit: expected a number","parameter":"limit"}]}"#,
                ),
            ),
            (
                Problem::not_found("no such order"),
                r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no such order"}"#,
            ),
        ] {
            let response = Response::from(problem);
            assert_eq!(String::from_utf8(response.body).unwrap(), expected);
            assert_eq!(response.headers.len(), 1);
            assert_eq!(response.headers[0].value, b"application/problem+json");
        }
    }
}
