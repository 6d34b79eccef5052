//! An HTTP request and its response, as a plugin sees them.

use serde::{Deserialize, Serialize};

use super::format::{Format, Unreadable};

/// An HTTP request, as a plugin sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Unique id. It is the causation id of the effects.
    pub id: String,
    /// Index of the route in the manifest.
    pub route: u32,
    /// Decoded values of the path's `{names}`, in order.
    pub params: Vec<String>,
    /// Decoded query parameters (name, value), in order.
    pub query: Vec<(String, String)>,
    /// (name, value), names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A plugin's response. It is serialized when it is stored for an idempotency key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// (name, value), names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
    /// The saga (type, key) whose end a caller with `Prefer: wait` waits for.
    pub saga: Option<(String, String)>,
}

impl Response {
    /// Encodes it to be stored. The encoding is pinned by a test: a change of it is a new format.
    #[must_use]
    pub fn encode_as(&self, format: Format) -> Vec<u8> {
        // Encoding cannot fail: vectors, numbers and texts.
        format.body(postcard::to_stdvec(self).unwrap_or_default())
    }

    /// Decodes a stored one.
    ///
    /// # Errors
    /// A later build has written it, or it is damaged.
    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        Format::decode(body)
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Response};

    /// Databases hold answers of released builds. A change of the encoding is a new format.
    #[test]
    fn the_encoding_of_a_format_never_changes() {
        let response = Response {
            status: 65_535,
            headers: vec![("h".into(), b"v".to_vec())],
            body: b"{}".to_vec(),
            saga: Some(("s".into(), "k".into())),
        };
        for (format, header) in [(Format::previous(), ""), (Format::newest(), "ffffffff01")] {
            let body = response.encode_as(format);
            assert_eq!(hex::encode(&body), format!("{header}ffff030101680176027b7d010173016b"));
            assert_eq!(Response::decode(&body), Ok(response.clone()));
        }
    }
}
