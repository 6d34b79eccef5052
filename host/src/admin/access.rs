//! Who may use the host API: clients with the token. Without a token, programs on this machine, but not web
//! pages in a browser on this machine.

use std::{net::SocketAddr, sync::Arc};

use anyhow::ensure;
use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// Refuses an address that other machines can reach when no token is set.
///
/// # Errors
/// One line that says what to set.
pub fn check_exposure(address: &SocketAddr, token: Option<&str>) -> anyhow::Result<()> {
    ensure!(
        token.is_some() || address.ip().to_canonical().is_loopback(),
        "other machines can reach the host API on {address}, so it needs a token: set SAGA_HOST_ADMIN_TOKEN, \
         or use an address on 127.0.0.1"
    );
    Ok(())
}

/// The access rule of one listener.
pub(crate) struct Access {
    token_hash: Option<[u8; 32]>,
}

impl Access {
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self { token_hash: token.map(|token| Sha256::digest(token).into()) }
    }

    fn refuse(&self, headers: &HeaderMap) -> Option<Problem> {
        match self.token_hash {
            Some(hash)
                if bearer(headers).is_none_or(|token| <[u8; 32]>::from(Sha256::digest(token)) != hash) =>
            {
                Some(
                    Problem::new(
                        StatusCode::UNAUTHORIZED,
                        "Unauthorized",
                        "this host API requires `Authorization: Bearer TOKEN`",
                    )
                    .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
                )
            }
            Some(_) => None,
            None if headers.contains_key(ORIGIN) || !host_is_local(headers) => Some(Problem::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "without a token, only programs on this machine may use the host API, under a loopback \
                 address or `localhost`; set SAGA_HOST_ADMIN_TOKEN to allow others",
            )),
            None => None,
        }
    }
}

/// Compare hashes of it only: the time that takes reveals nothing about the token.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// DNS rebinding: a page whose own name points at 127.0.0.1 still sends that name.
fn host_is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let open = request.uri().path() == "/healthz";
    match access.refuse(request.headers()) {
        Some(problem) if !open => problem.into_response(),
        _ => next.run(request).await,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use axum::http::{HeaderMap, HeaderName};

    use super::{Access, check_exposure};

    #[test]
    fn a_token_is_required_off_loopback() {
        for (address, open) in [
            ("127.0.0.1:7081", true),
            ("127.9.9.9:1", true),
            ("[::1]:7081", true),
            ("[::ffff:127.0.0.1]:7081", true),
            ("0.0.0.0:7081", false),
            ("[::]:7081", false),
            ("10.0.0.7:7081", false),
        ] {
            assert_eq!(check_exposure(&address.parse().unwrap(), None).is_ok(), open, "{address}");
            assert!(check_exposure(&address.parse().unwrap(), Some("s")).is_ok(), "{address}");
        }
    }

    fn refused(token: Option<&str>, headers: &[(&'static str, &str)]) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Access::new(token).refuse(&headers).is_some()
    }

    #[test]
    fn the_token_must_match() {
        for (value, ok) in
            [("Bearer s3cret", true), ("bearer s3cret", true), ("Bearer s3cre", false), ("s3cret", false)]
        {
            assert_eq!(!refused(Some("s3cret"), &[("authorization", value)]), ok, "{value}");
        }
        assert!(refused(Some("s3cret"), &[]));
    }

    #[test]
    fn without_a_token_a_web_page_is_refused() {
        for (host, ok) in [
            ("127.0.0.1:7081", true),
            ("localhost", true),
            ("[::1]:7081", true),
            ("evil.example:7081", false),
        ] {
            assert_eq!(!refused(None, &[("host", host)]), ok, "{host}");
        }
        assert!(refused(None, &[("host", "127.0.0.1:7081"), ("origin", "http://evil.example")]));
    }
}
