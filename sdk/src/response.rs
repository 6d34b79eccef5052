//! Answers to requests.

use std::fmt::Display;

use serde::Serialize;

use crate::{
    bindings::saga::plugin::types::Header,
    input::{Response, SagaName},
    saga::Saga,
};

impl Response {
    /// An answer with a JSON body. A value that cannot be written as JSON gives 500, which makes the request
    /// a culprit.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let content_type = Header { name: "content-type".to_owned(), value: b"application/json".to_vec() };
        let (status, body) = serde_json::to_vec(value).map_or((500, Vec::new()), |body| (status, body));
        Self { status, headers: vec![content_type], body, saga: None }
    }

    /// 201 with the address of what was created.
    #[must_use]
    pub fn created(location: impl Display, value: &impl Serialize) -> Self {
        Self::json(201, value).with_header("location", &location.to_string())
    }

    /// Sets a header and replaces one of the same name, which is in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|header| header.name != name);
        self.headers.push(Header { name: name.to_owned(), value: value.as_bytes().to_vec() });
        self
    }

    /// Names the saga that the answer is about: a caller with `Prefer: wait` is answered when it has ended.
    #[must_use]
    pub fn with_saga<S: Saga>(mut self, key: impl Display) -> Self {
        self.saga = Some(SagaName { saga_type: S::TYPE.to_owned(), key: key.to_string() });
        self
    }
}
