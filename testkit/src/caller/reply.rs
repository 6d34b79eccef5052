//! A reply, and assertions about it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The reply to one request.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Method and path of the request, for messages.
    pub request_line: String,
    /// The status code.
    pub status: u16,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
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

    /// The body as text, with invalid bytes replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The body is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: the body is not JSON: {}", self.request_line, self.short()))
    }

    /// The body as a bare array.
    ///
    /// # Errors
    /// The body is not a bare array.
    pub fn array(&self) -> Result<Vec<Value>> {
        match self.json()? {
            Value::Array(items) => Ok(items),
            _ => anyhow::bail!("{}: not a bare array: {}", self.request_line, self.short()),
        }
    }

    /// The member of the body's object.
    ///
    /// # Errors
    /// The body is not an object with this member.
    pub fn member(&self, name: &str) -> Result<Value> {
        let json = self.json()?;
        json.get(name)
            .cloned()
            .with_context(|| format!("{}: no member {name}: {}", self.request_line, self.short()))
    }

    /// Requires a status.
    ///
    /// # Errors
    /// The reply has another status.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.status == status,
            "{}: {} instead of {status}: {}",
            self.request_line,
            self.status,
            self.short()
        );
        Ok(self)
    }

    /// Requires problem details (RFC 9457) with one of these statuses, and with `naming` in their text.
    ///
    /// # Errors
    /// The reply is anything else.
    pub fn expect_problem(self, statuses: &[u16], naming: &str) -> Result<Self> {
        ensure!(
            statuses.contains(&self.status),
            "{}: {} instead of {statuses:?}: {}",
            self.request_line,
            self.status,
            self.short()
        );
        let kind = self.header("content-type").unwrap_or_default();
        ensure!(
            kind.starts_with("application/problem+json"),
            "{}: {} with content type {kind:?}",
            self.request_line,
            self.status
        );
        let problem = self.json()?;
        ensure!(
            problem.get("title").is_some_and(Value::is_string),
            "{}: no title: {}",
            self.request_line,
            self.short()
        );
        let inside = problem.get("status").and_then(Value::as_u64);
        ensure!(
            inside.is_none_or(|inside| inside == u64::from(self.status)),
            "{}: another status inside: {}",
            self.request_line,
            self.short()
        );
        ensure!(
            self.text().contains(naming),
            "{}: does not name {naming}: {}",
            self.request_line,
            self.short()
        );
        Ok(self)
    }

    /// The start of the body.
    #[must_use]
    pub fn short(&self) -> String {
        self.text().chars().take(300).collect()
    }
}

pub(super) fn headers(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Reply, headers};

    #[test]
    fn a_problem_names_its_field() {
        let reply = |body: &str| Reply {
            request_line: "POST /x".to_owned(),
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
