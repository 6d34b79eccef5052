//! The client of a running host's API.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use super::output;
use crate::config::ADMIN_DEFAULT;

/// A deploy may have to compile the component.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Options of every command that calls the host API.
#[derive(Debug, clap::Args)]
pub(super) struct Client {
    /// Address of the host API
    #[arg(long, env = "SAGA_HOST_ADMIN", value_name = "ADDR", default_value = ADMIN_DEFAULT)]
    admin: String,
    /// Token of the host API; prefer the environment variable: other users can read command lines
    #[arg(long, env = "SAGA_HOST_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Query parameters; those without a value are left out.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

impl Client {
    /// Prints the answer: unchanged with `--json`, otherwise as `text` formats it.
    pub(super) fn show(&self, answer: &Value, text: impl FnOnce(&Value) -> String) {
        match self.json {
            true => output::json(answer),
            false => output::line(&text(answer)),
        }
    }

    pub(super) fn get(&self, path: &str, query: Query<'_>) -> anyhow::Result<Value> {
        let request = self.agent().get(self.address(path)).query_pairs(given(query));
        self.answer(self.authorized(request).call())
    }

    pub(super) fn post(&self, path: &str, query: Query<'_>) -> anyhow::Result<Value> {
        let request = self.agent().post(self.address(path)).query_pairs(given(query));
        self.answer(self.authorized(request).send_empty())
    }

    pub(super) fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent().post(self.address(path));
        self.answer(self.authorized(request).send_json(body))
    }

    pub(super) fn put(&self, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Value> {
        let request = self.agent().put(self.address(path)).content_type(content_type);
        self.answer(self.authorized(request).send(body))
    }

    fn agent(&self) -> Agent {
        Agent::config_builder()
            .timeout_global(Some(ANSWER_WITHIN))
            .http_status_as_error(false)
            .build()
            .new_agent()
    }

    fn address(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.trim_start_matches("http://").trim_end_matches('/'))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.admin_token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut answer = answer.map_err(|error| {
            let hint = "start a host, or set its address with --admin";
            anyhow!("cannot reach the host API at {} ({error}); {hint}", self.admin)
        })?;
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().with_context(|| {
            format!("{} is not the host API of a saga-host: it answered with status {status}", self.admin)
        })?;
        if status.is_success() {
            return Ok(body);
        }
        match body["detail"].as_str().filter(|detail| !detail.is_empty()).or(body["title"].as_str()) {
            Some(detail) => bail!("{detail}"),
            None => bail!("status {status}"),
        }
    }
}

fn given<'a>(query: Query<'a>) -> impl Iterator<Item = (&'a str, String)> {
    query.iter().filter_map(|(name, value)| Some((*name, value.clone()?)))
}

/// All characters except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one segment of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_key_is_one_segment() {
        assert_eq!(segment("a-B_9.~"), "a-B_9.~");
        assert_eq!(segment("a/b ä?"), "a%2Fb%20%C3%A4%3F");
    }
}
