//! The error of a handler. Every error leaves the API as problem details (RFC 9457).

use axum::{
    body::to_bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

use crate::problem::{self, Problem};

const EXPLANATION_BYTES_MAX: usize = 4096;

/// An error that a handler answers with.
pub(super) struct Failure(Problem);

impl Failure {
    /// 400: the parameter is unknown or its value is not valid.
    pub(super) fn parameter(name: &str, detail: &str) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "Bad parameter", format!("{name}: {detail}"))
            .with("parameter", name)
            .into()
    }

    /// 404.
    pub(super) fn unknown(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "Not found", detail).into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        tracing::warn!(reason = %error, "the host API cannot read Postgres");
        let problem = match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == "57014" => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Search takes too long",
                "the search was stopped after 5 s; narrow it by type and key",
            ),
            Some(code) if code.starts_with("22") => Problem::new(
                StatusCode::BAD_REQUEST,
                "Bad parameter",
                "a parameter has a value that Postgres does not accept",
            ),
            _ => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Postgres is not available",
                "the host cannot read its database; the log has the reason",
            ),
        };
        problem.into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// Turns the errors of the router and of extractors into problem details.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == problem::CONTENT_TYPE.as_bytes());
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = to_bytes(body, EXPLANATION_BYTES_MAX).await.unwrap_or_default();
    let detail = match (status, String::from_utf8_lossy(&text)) {
        (StatusCode::NOT_FOUND, _) => "no such route; /openapi.json lists all routes".to_owned(),
        (StatusCode::METHOD_NOT_ALLOWED, _) => {
            "this route does not have that method; the Allow header lists those it has".to_owned()
        }
        (_, text) => text.into_owned(),
    };
    let problem = Problem::new(status, status.canonical_reason().unwrap_or("Error"), detail).into_response();
    for name in [CONTENT_TYPE, axum::http::header::CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    let (made, body) = problem.into_parts();
    head.headers.extend(made.headers);
    Response::from_parts(head, body)
}
