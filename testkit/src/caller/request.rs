//! A request as it is put together and sent.

use std::time::Duration;

use anyhow::{Context, Result};

use super::reply::{Reply, headers};
use crate::connection::Connection;

/// Longer than the longest `Prefer: wait`.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// A request under construction.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
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

    /// `POST path` with this text as JSON, valid or not.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::json("POST", path, body)
    }

    /// A request with this text as JSON, valid or not.
    pub fn json(method: &str, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let mut request = Self::new(method, path).header("Content-Type", "application/json");
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

    /// Replaces a header.
    #[must_use]
    pub fn instead(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self.header(name, value)
    }

    /// The bytes that are sent.
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
    /// There is no connection, no HTTP answer, or none within 40 s.
    pub async fn send(&self, address: &str) -> Result<Reply> {
        let request_line = format!("{} {}", self.method, self.path);
        let exchange = async {
            let mut connection = Connection::open(address).await?;
            connection.exchange(&self.encode(address), self.method == "HEAD").await
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .with_context(|| format!("{request_line}: no answer in {} s", ANSWER_WITHIN.as_secs()))?
            .with_context(|| format!("{request_line} at {address}"))?;
        Ok(Reply { request_line, status: answer.status, headers: headers(&answer.head), body: answer.body })
    }
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[test]
    fn a_request_says_its_length() {
        let bytes = Request::post("/orders", "{}").instead("content-type", "text/plain").encode("h:1");
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "POST /orders HTTP/1.1\r\nHost: h:1\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n\r\n{}"
        );
    }
}
