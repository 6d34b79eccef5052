//! Who may use the host API: whoever has the token; without one, programs of this machine, but no
//! web page that a browser of this machine shows.

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

/// Refuses an address that others can reach, where no token keeps them out.
///
/// # Errors
/// One line that says what to set.
pub fn check_exposure(address: &SocketAddr, token: Option<&str>) -> anyhow::Result<()> {
    ensure!(
        token.is_some() || address.ip().to_canonical().is_loopback(),
        "the host API on {address} can be reached from elsewhere and needs a token; set SAGA_HOST_ADMIN_TOKEN, \
         or leave it on 127.0.0.1"
    );
    Ok(())
}

/// The rule of one listener.
pub(super) struct Access {
    token_hash: Option<[u8; 32]>,
}

impl Access {
    pub(super) fn new(token: Option<&str>) -> Self {
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
                        "this host API asks for `Authorization: Bearer TOKEN`",
                    )
                    .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
                )
            }
            Some(_) => None,
            None if headers.contains_key(ORIGIN) || !host_is_local(headers) => Some(Problem::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "without a token only programs of this machine may ask, under a name of this machine; set \
                 SAGA_HOST_ADMIN_TOKEN for others",
            )),
            None => None,
        }
    }
}

/// Hashes are compared, so the time it takes tells nothing of the token.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// A page that has its own name point at 127.0.0.1 still sends that name.
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
    fn off_loopback_a_token_is_needed() {
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
    fn the_token_is_asked_for() {
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
