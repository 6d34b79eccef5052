//! Decodes JSON objects. An error names the member that does not fit.

use std::fmt;

use serde::de::DeserializeOwned;

/// Why bytes are not the JSON object that was expected.
#[derive(Debug)]
pub(crate) struct NotObject {
    /// The member that does not fit.
    pub(crate) member: Option<String>,
    pub(crate) reason: String,
}

impl fmt::Display for NotObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "{member}: {}", self.reason),
            None => write!(f, "the value {}", self.reason),
        }
    }
}

/// What serde_json says of a number that no float can hold. It takes that for a fault of the syntax.
const OUT_OF_RANGE: &str = "number out of range";

/// Decodes an object. Only bytes that do not fit are read a second time, to find the member.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotObject> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotObject { member: None, reason: "is not a JSON object".to_owned() });
    }
    // serde_json does not look into strings that nobody reads.
    let text = std::str::from_utf8(bytes)
        .map_err(|error| NotObject { member: None, reason: format!("is not JSON: {error}") })?;
    serde_json::from_str(text).map_err(|_| explain::<T>(text))
}

fn explain<T: DeserializeOwned>(text: &str) -> NotObject {
    let json = &mut serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(json) else {
        return NotObject { member: None, reason: "has something behind its JSON object".to_owned() };
    };
    let path = error.path().to_string();
    let reason = error.into_inner();
    match (reason.is_data(), path.as_str()) {
        (true, ".") => NotObject { member: quoted(&reason.to_string()), reason: plain(&reason) },
        (true, _) => NotObject { member: Some(path), reason: plain(&reason) },
        (false, _) if plain(&reason) == OUT_OF_RANGE => {
            NotObject { member: Some(path), reason: OUT_OF_RANGE.to_owned() }
        }
        (false, _) => NotObject { member: None, reason: format!("is not JSON: {reason}") },
    }
}

/// The member that a message such as "missing field `orderQty`" names.
fn quoted(message: &str) -> Option<String> {
    message.split('`').nth(1).map(str::to_owned)
}

/// The message without the line and column, which are of no use for a one-line body.
fn plain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use serde::Deserialize;

    use super::object;
    use crate::{positive::Positive, uuid::Uuid};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only decoded")]
    struct Order {
        order_id: Option<Uuid>,
        order_qty: Positive,
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (bytes, expected) in [
            (&b"{}"[..], "orderQty: missing field `orderQty`"),
            (
                br#"{"orderQty":0}"#,
                "orderQty: invalid value: integer `0`, expected a whole number from 1 to 2147483647",
            ),
            (
                br#"{"orderQty":"1"}"#,
                "orderQty: invalid type: string \"1\", expected a whole number from 1 to 2147483647",
            ),
            (br#"{"orderQty":1,"orderQty":2}"#, "orderQty: duplicate field `orderQty`"),
            (br#"{"orderId":"a","orderQty":1}"#, "orderId: expected a hyphenated UUID"),
            (
                br#"{"orderId":5,"orderQty":1}"#,
                "orderId: invalid type: integer `5`, expected a hyphenated UUID",
            ),
            (br#"{"orderQty":1e400}"#, "orderQty: number out of range"),
            (b"", "the value is not a JSON object"),
            (b"[1,2]", "the value is not a JSON object"),
            (b"null", "the value is not a JSON object"),
            (br#"{"orderQty":1} x"#, "the value has something behind its JSON object"),
            (b"{", "the value is not JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(object::<Order>(bytes).err().unwrap().to_string(), expected);
        }
        let digits = format!(r#"{{"orderQty":{}}}"#, "9".repeat(400));
        let error = object::<Order>(digits.as_bytes()).err().unwrap();
        assert_eq!(error.member.as_deref(), Some("orderQty"));
        for not_utf8 in
            [&b"{\xff}"[..], b"{\"orderQty\":1,\"note\":\"\xff\"}", b"{\"orderQty\":1,\"\xed\xa0\x80\":1}"]
        {
            let error = object::<Order>(not_utf8).err().unwrap();
            assert!(
                error.member.is_none() && error.reason.starts_with("is not JSON: invalid utf-8"),
                "{error}"
            );
        }
        assert!(object::<Order>(format!("{{\"a\":{}", "[".repeat(20_000)).as_bytes()).is_err());
    }

    #[test]
    fn other_members_order_and_space_are_accepted() {
        let order: Order =
            object(b" {\n\"note\":{\"a\":[1,null]}, \"orderQty\" : 3, \"orderId\":null}\n").unwrap();
        assert_eq!((order.order_id, order.order_qty.get()), (None, 3));
    }
}
