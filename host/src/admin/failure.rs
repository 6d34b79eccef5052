//! What a handler fails with, and the form in which every error leaves: problem details.

use axum::{
    body::to_bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

use crate::problem::{self, Problem};

const EXPLANATION_BYTES_MAX: usize = 4096;

/// Why a request is not served.
pub(super) struct Failure(Problem);

impl Failure {
    /// 400 for a parameter that means nothing.
    pub(super) fn parameter(name: &str, detail: &str) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "Bad parameter", format!("{name}: {detail}"))
            .with("parameter", name)
            .into()
    }

    /// 404 for something that is not there.
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
        tracing::warn!(reason = %error, "host API");
        let problem = match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code == "57014" => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much to look through",
                "narrow the search by type and key",
            ),
            Some(code) if code.starts_with("22") => {
                Problem::new(StatusCode::BAD_REQUEST, "Bad parameter", error.to_string())
            }
            _ => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Postgres is not available", error.to_string())
            }
        };
        problem.into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// Gives the errors of the router and of extractors the form that ours have.
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
        (StatusCode::NOT_FOUND, _) => "no such route; /openapi.json lists them".to_owned(),
        (StatusCode::METHOD_NOT_ALLOWED, _) => "not a method of this route; see Allow".to_owned(),
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
