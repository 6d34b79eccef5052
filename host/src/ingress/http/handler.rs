//! One request, from its first byte to its answer: finds the route, reads the body, calls the plugin.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    body::{Body, HttpBody},
    extract::{Request as HttpRequest, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts,
        response::Response as HttpResponse,
    },
    response::IntoResponse,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    idempotency::idempotency,
    outcome, prefer,
    readers::ReadError,
    route_table::{RouteOwner, RouteTable},
    router::Target,
    translate,
    write::{Write, write},
};
use crate::{
    listener::body,
    model::{
        fault::Fault,
        manifest::route_index,
        request::{Request, Response},
        trace::Trace,
    },
    problem::Problem,
};

/// State that all requests share.
#[derive(Debug)]
pub(super) struct Ingress {
    /// The routes of the active versions. Rollout replaces them when a plugin changes.
    pub(super) routes: Arc<ArcSwap<RouteTable>>,
    /// How soon the body of a request must have arrived.
    pub(super) body_within: Duration,
    /// Set when the host stops: callers then no longer wait for the end of a saga.
    pub(super) stop: CancellationToken,
}

/// The target of a request, with the values of its path.
enum RouteMatch {
    Target(Arc<Target>, Vec<String>),
    /// The request is `OPTIONS`; the value of `Allow`.
    Options(HeaderValue),
}

/// Answers a request.
pub(super) async fn handle(State(ingress): State<Arc<Ingress>>, request: HttpRequest) -> HttpResponse<Body> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let trace = parent(&parts.headers).unwrap_or_else(Trace::start);
    let answer = answer(&ingress, &parts, body, &trace, started).await;
    let answer = answer.unwrap_or_else(IntoResponse::into_response);
    let answer = if parts.method == Method::HEAD { without_body(answer) } else { answer };
    tracing::debug!(
        trace = %trace.id(),
        method = %parts.method,
        path = parts.uri.path(),
        status = answer.status().as_u16(),
        ms = started.elapsed().as_millis(),
        "request"
    );
    answer
}

/// The trace that the caller continues. A `traceparent` that is sent twice is ignored (W3C Trace Context).
fn parent(headers: &HeaderMap) -> Option<Trace> {
    let mut values = headers.get_all("traceparent").iter();
    let parent = Trace::parse(values.next()?.as_bytes()).filter(|_| values.next().is_none())?;
    Some(parent.with_state(headers.get_all("tracestate").iter().map(HeaderValue::as_bytes)))
}

async fn answer(
    ingress: &Ingress,
    parts: &Parts,
    body: Body,
    trace: &Trace,
    started: Instant,
) -> Result<HttpResponse<Body>, Problem> {
    let (target, params) = match find(&ingress.routes.load(), &parts.method, parts.uri.path())? {
        RouteMatch::Target(target, params) => (target, params),
        RouteMatch::Options(allow) => return Ok(options(allow)),
    };
    if target.endpoint.versions.suspended().is_some() {
        return Err(outcome::suspended());
    }
    let bytes_max = target.endpoint.versions.active().version.policy.http.body_bytes_max;
    let request = Request {
        id: uuid::Uuid::now_v7().to_string(),
        route: 0,
        params,
        query: translate::query(parts.uri.query().unwrap_or_default())?,
        headers: translate::headers(&parts.headers),
        body: body::read(&parts.headers, body, bytes_max, ingress.body_within).await?,
    };
    let id = request.id.clone();
    let response = match target.read {
        true => read(&target, request, trace).await?,
        false => {
            write(&target.endpoint.requests, &ingress.stop, prepare(&target, parts, request, trace, started)?)
                .await?
        }
    };
    translate::response(response).map_err(|reason| failed(&target, &id, trace, &reason))
}

fn find(routes: &RouteTable, method: &Method, path: &str) -> Result<RouteMatch, Problem> {
    let Some((resource, values)) = routes.find(path) else {
        return Err(routes.incomplete().unwrap_or_else(|| not_found(path)));
    };
    let allow = || HeaderValue::from_str(&resource.allow).unwrap_or(HeaderValue::from_static("OPTIONS"));
    match resource.method(method.as_str()) {
        Some(RouteOwner::Running(target)) => {
            Ok(RouteMatch::Target(Arc::clone(target), translate::params(&values)?))
        }
        Some(RouteOwner::NotRunning(plugin)) => Err(outcome::not_running(&plugin.plugin, plugin.cause)),
        None if method == Method::OPTIONS => Ok(RouteMatch::Options(allow())),
        None => {
            if let Some(problem) = routes.incomplete() {
                return Err(problem);
            }
            let detail = format!("{path} allows {}", resource.allow);
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail);
            Err(problem.header(header::ALLOW, allow()))
        }
    }
}

fn not_found(path: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "Not found", format!("no route matches {path}"))
}

fn options(allow: HeaderValue) -> HttpResponse<Body> {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

fn prepare(
    target: &Target,
    parts: &Parts,
    request: Request,
    trace: &Trace,
    started: Instant,
) -> Result<Write, Problem> {
    let Request { query, body, .. } = &request;
    let idempotency = idempotency(&parts.headers, parts.method.as_str(), parts.uri.path(), query, body)?;
    let wait = prefer::wait(parts.headers.get_all("prefer").iter().map(HeaderValue::as_bytes));
    Ok(Write {
        route: Arc::clone(&target.route),
        trace: trace.clone(),
        idempotency,
        wait_until: wait.map(|wait| started + wait),
        request,
    })
}

async fn read(target: &Target, mut request: Request, trace: &Trace) -> Result<Response, Problem> {
    let endpoint = &target.endpoint;
    let active = endpoint.versions.active();
    request.route =
        route_index(&active.version.manifest, &target.route).ok_or_else(|| not_found(&target.route.path))?;
    endpoint.readers.read(&active.version, &request).await.map_err(|error| match error {
        ReadError::Busy => outcome::busy("reads"),
        ReadError::Fault(fault @ (Fault::Guest(_) | Fault::Culprits(_))) => {
            active.counters.errors.fetch_add(1, Ordering::Relaxed);
            failed(target, &request.id, trace, &reason(&fault))
        }
        ReadError::Fault(fault) => {
            tracing::warn!(plugin = endpoint.plugin, trace = trace.id(), %fault, "read not answered");
            if matches!(fault, Fault::Suspect(_)) { outcome::not_now() } else { outcome::unreachable() }
        }
    })
}

fn failed(target: &Target, request: &str, trace: &Trace, reason: &str) -> Problem {
    tracing::error!(plugin = target.endpoint.plugin, request, trace = trace.id(), reason, "request failed");
    outcome::failed(request, trace)
}

fn reason(fault: &Fault) -> String {
    match fault {
        Fault::Culprits(culprits) => {
            culprits.iter().map(|culprit| culprit.reason.as_str()).collect::<Vec<_>>().join("; ")
        }
        fault => fault.to_string(),
    }
}

/// The answer to a `GET` without its body, but with its length.
fn without_body(answer: HttpResponse<Body>) -> HttpResponse<Body> {
    let (mut parts, body) = answer.into_parts();
    let lengthless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let Some(length) = body.size_hint().exact().filter(|_| !lengthless) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    HttpResponse::from_parts(parts, Body::empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use axum::{
        body::{Body, HttpBody},
        http::{HeaderMap, Method, StatusCode, header},
        response::IntoResponse,
    };

    use super::{Problem, find, parent, without_body};
    use crate::ingress::http::route_table::RouteTable;

    #[test]
    fn an_unknown_path_is_not_found_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let table = RouteTable::build(&[], &[], false).unwrap();
            let problem = find(&table, &method, "/nothing").err().unwrap();
            assert_eq!(
                (problem.status, problem.detail()),
                (StatusCode::NOT_FOUND, "no route matches /nothing")
            );
        }
    }

    #[test]
    fn while_the_host_starts_no_path_is_unknown() {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let problem = find(&RouteTable::starting(), &method, "/nothing").err().unwrap();
            assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(problem.into_response().headers().contains_key(header::RETRY_AFTER));
        }
    }

    #[test]
    fn a_trace_is_continued_only_from_one_valid_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(parent(&headers), None);
        let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.append("traceparent", value.parse().unwrap());
        headers.append("tracestate", "rojo=1".parse().unwrap());
        headers.append("tracestate", "congo=2".parse().unwrap());
        assert_eq!(parent(&headers).unwrap().id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent(&headers).unwrap().state(), Some("rojo=1,congo=2"));
        headers.append("traceparent", value.parse().unwrap());
        assert_eq!(parent(&headers), None);
    }

    #[test]
    fn an_answer_to_head_keeps_its_headers() {
        let problem = || Problem::new(StatusCode::NOT_FOUND, "Not found", "no such order").into_response();
        let (get, head) = (problem(), without_body(problem()));
        assert_eq!(head.headers()[header::CONTENT_TYPE], get.headers()[header::CONTENT_TYPE]);
        let length = get.body().size_hint().exact().unwrap().to_string();
        assert_eq!(head.headers()[header::CONTENT_LENGTH], length.as_str());
        assert!(head.body().is_end_stream());
        assert_eq!(without_body(Body::empty().into_response()).headers()[header::CONTENT_LENGTH], "0");
    }
}
