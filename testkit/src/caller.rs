//! Single HTTP requests, each on its own connection, with everything about the answer at hand: for checks,
//! not for load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::connection::Connection;

/// Longer than the longest `Prefer: wait`.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// One request being put together.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What was asked, for messages.
    pub asked: String,
    /// The status code.
    pub status: u16,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without body.
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self { method: method.to_owned(), path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET path`
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path)
    }

    /// `POST path` with this JSON text, whether or not it is JSON.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::new("POST", path).header("Content-Type", "application/json");
        request.body = body.into();
        request
    }

    /// `PUT path` with a component.
    pub fn put(path: impl Into<String>, body: Vec<u8>) -> Self {
        let mut request = Self::new("PUT", path).header("Content-Type", "application/wasm");
        request.body = body;
        request
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Puts another value in the place of the header's present one.
    #[must_use]
    pub fn instead(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self.header(name, value)
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self, host: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it.
    ///
    /// # Errors
    /// No connection, no HTTP answer, or none within 40 s.
    pub async fn send(&self, address: &str) -> Result<Reply> {
        let asked = format!("{} {}", self.method, self.path);
        let exchange = async {
            let mut connection = Connection::open(address).await?;
            connection.exchange(&self.encode(address), self.method == "HEAD").await
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .with_context(|| format!("{asked}: no answer in {} s", ANSWER_WITHIN.as_secs()))?
            .with_context(|| format!("{asked} at {address}"))?;
        Ok(Reply { asked, status: answer.status, headers: headers(&answer.head), body: answer.body })
    }
}

impl Reply {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(present, _)| present.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text, bad bytes replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: the body is not JSON: {}", self.asked, self.short()))
    }

    /// The body as a bare array.
    ///
    /// # Errors
    /// It is not.
    pub fn array(&self) -> Result<Vec<Value>> {
        match self.json()? {
            Value::Array(items) => Ok(items),
            _ => anyhow::bail!("{}: not a bare array: {}", self.asked, self.short()),
        }
    }

    /// The member of the body's object.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<Value> {
        let json = self.json()?;
        json.get(name).cloned().with_context(|| format!("{}: no member {name}: {}", self.asked, self.short()))
    }

    /// Demands a status.
    ///
    /// # Errors
    /// It is another.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "{}: {} instead of {status}: {}",
            self.asked,
            self.status,
            self.short()
        );
        Ok(self)
    }

    /// Demands problem details (RFC 9457) of one of these statuses, with `naming` in its text.
    ///
    /// # Errors
    /// Anything else.
    pub fn expect_problem(self, statuses: &[u16], naming: &str) -> Result<Self> {
        ensure!(
            statuses.contains(&self.status),
            "{}: {} instead of {statuses:?}: {}",
            self.asked,
            self.status,
            self.short()
        );
        let kind = self.header("content-type").unwrap_or_default();
        ensure!(
            kind.starts_with("application/problem+json"),
            "{}: {} with content type {kind:?}",
            self.asked,
            self.status
        );
        let problem = self.json()?;
        ensure!(
            problem.get("title").is_some_and(Value::is_string),
            "{}: no title: {}",
            self.asked,
            self.short()
        );
        let inside = problem.get("status").and_then(Value::as_u64);
        ensure!(
            inside.is_none_or(|inside| inside == u64::from(self.status)),
            "{}: another status inside: {}",
            self.asked,
            self.short()
        );
        ensure!(self.text().contains(naming), "{}: does not name {naming}: {}", self.asked, self.short());
        Ok(self)
    }

    /// The start of the body.
    #[must_use]
    pub fn short(&self) -> String {
        self.text().chars().take(300).collect()
    }
}

fn headers(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Reply, Request, headers};

    #[test]
    fn a_request_says_its_length() {
        let bytes = Request::post("/orders", "{}").instead("content-type", "text/plain").encode("h:1");
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "POST /orders HTTP/1.1\r\nHost: h:1\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn a_problem_names_its_field() {
        let reply = |body: &str| Reply {
            asked: "POST /x".to_owned(),
            status: 400,
            headers: headers(b"HTTP/1.1 400 Bad\r\nContent-Type: application/problem+json\r\n\r\n"),
            body: body.as_bytes().to_vec(),
        };
        assert!(
            reply(r#"{"title":"t","status":400,"detail":"orderQty: 0"}"#)
                .expect_problem(&[400, 422], "orderQty")
                .is_ok()
        );
        assert!(reply(r#"{"title":"t","detail":"no"}"#).expect_problem(&[400], "orderQty").is_err());
        assert!(
            reply(r#"{"title":"t","status":422,"detail":"orderQty"}"#)
                .expect_problem(&[400], "orderQty")
                .is_err()
        );
    }
}
