//! Places one order over a connection that stays open, as cheaply as possible, and waits until its saga has
//! ended.

use std::io::Write;
use std::time::Duration;

use saga_testkit::connection::{Answer, Connection};

/// Longer than the host's own limit of 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// The outcome of an order, according to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Confirmed,
    Cancelled,
    /// 201, but the saga did not end in time.
    Unfinished,
    /// Another status, or no answer.
    Refused,
}

impl Ending {
    /// Whether the saga has ended.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Confirmed | Self::Cancelled)
    }
}

/// A connection. It is opened when first used, and opened again after a failure.
#[derive(Default)]
pub(super) struct OrderCall {
    connection: Option<Connection>,
    request: Vec<u8>,
}

impl OrderCall {
    /// Places an order for one piece of `product`.
    pub(super) async fn place(&mut self, address: &str, product: i64) -> Ending {
        encode(&mut self.request, address, product);
        self.exchange(address).await.map_or(Ending::Refused, |answer| ending(&answer))
    }

    async fn exchange(&mut self, address: &str) -> Option<Answer> {
        // Taken out while in use, since an exchange that is abandoned leaves an unusable connection.
        let mut open = match self.connection.take() {
            Some(open) => open,
            None => Connection::open(address).await.ok()?,
        };
        let answer =
            tokio::time::timeout(ANSWER_WITHIN, open.exchange(&self.request, false)).await.ok()?.ok()?;
        if answer.status == 201 {
            self.connection = Some(open);
        }
        Some(answer)
    }
}

fn encode(request: &mut Vec<u8>, address: &str, product: i64) {
    let body = format!(r#"{{"productId":{product},"orderQty":1}}"#);
    request.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(
        request,
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Prefer: wait=30\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

fn ending(answer: &Answer) -> Ending {
    let ends = |status: &str| answer.body.ends_with(format!(r#""orderStatus":"{status}"}}"#).as_bytes());
    match answer.status {
        201 if ends("CONFIRMED") => Ending::Confirmed,
        201 if ends("CANCELLED") => Ending::Cancelled,
        201 => Ending::Unfinished,
        _ => Ending::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, encode, ending};
    use saga_testkit::connection::Answer;

    #[test]
    fn an_answer_shows_how_the_saga_ended() {
        let answer = |status, body: &str| Answer { status, head: Vec::new(), body: body.into() };
        assert_eq!(ending(&answer(201, r#"{"orderId":"a","orderStatus":"CONFIRMED"}"#)), Ending::Confirmed);
        assert_eq!(ending(&answer(201, r#"{"orderId":"a","orderStatus":"CANCELLED"}"#)), Ending::Cancelled);
        assert_eq!(ending(&answer(201, r#"{"orderId":"a"}"#)), Ending::Unfinished);
        assert_eq!(ending(&answer(503, "")), Ending::Refused);
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let mut request = Vec::new();
        encode(&mut request, "h:1", 12);
        let text = String::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
    }
}
