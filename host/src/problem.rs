//! Error responses of the HTTP servers: RFC 9457 problem details. Nothing else creates them.
//! <https://www.rfc-editor.org/rfc/rfc9457>

use std::borrow::Cow;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

/// Content type of problem details.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// A response with a 4xx or 5xx status and problem details as its body.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Status of the response, also a member of its body.
    pub status: StatusCode,
    kind: &'static str,
    title: Cow<'static, str>,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem that needs no classification beyond its status: `type` is `about:blank`.
    #[must_use]
    pub fn new(status: StatusCode, title: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind: "about:blank",
            title: title.into(),
            detail: detail.into(),
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    /// Sets `type`, a stable URI of the kind of problem.
    #[must_use]
    pub fn kind(mut self, uri: &'static str) -> Self {
        self.kind = uri;
        self
    }

    /// Adds an extension member to the body.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The sentence that explains this occurrence of the problem.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    fn body(&self) -> String {
        let mut body = Map::with_capacity(4 + self.members.len());
        body.insert("type".into(), self.kind.into());
        body.insert("title".into(), self.title.as_ref().into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.as_str().into());
        body.extend(self.members.clone());
        Value::Object(body).to_string()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        http::{StatusCode, header},
        response::IntoResponse,
    };
    use serde_json::{Value, json};

    use super::Problem;

    #[test]
    fn a_problem_has_standard_and_extension_members() {
        let problem = Problem::new(StatusCode::CONFLICT, "In use", "another body under this id")
            .with("traceId", "ab")
            .retry_after(1);
        let body: Value = serde_json::from_str(&problem.body()).unwrap_or_default();
        let expected = json!({
            "type": "about:blank", "title": "In use", "status": 409,
            "detail": "another body under this id", "traceId": "ab",
        });
        assert_eq!(body, expected);
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
