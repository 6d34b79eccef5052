//! One client of the closed loop, as cheap as it can be.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::products::Orders;
use crate::connection::{Answer, Connection};
use crate::latency::Latencies;

const AFTER_ERROR: Duration = Duration::from_millis(50);
/// Above the host's own 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Where the measurement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    WarmUp,
    Measure,
    Stop,
}

/// What all clients look at.
#[derive(Debug, Default)]
pub(super) struct Window(AtomicU8);

impl Window {
    pub(super) fn enter(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Relaxed) == phase as u8
    }
}

/// What clients saw. Only `sagas_in_all` counts what ended outside the measurement.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) latencies: Latencies,
    pub(super) sagas_in_all: u64,
    pub(super) confirmed: u64,
    pub(super) cancelled: u64,
    /// 201, but the saga had not ended in time.
    pub(super) unfinished: u64,
    /// Confirmed without stock, or cancelled with plenty.
    pub(super) wrong: u64,
    /// Another status, or no answer.
    pub(super) errors: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.latencies.join(other.latencies);
        self.sagas_in_all += other.sagas_in_all;
        self.confirmed += other.confirmed;
        self.cancelled += other.cancelled;
        self.unfinished += other.unfinished;
        self.wrong += other.wrong;
        self.errors += other.errors;
    }
}

/// Places orders until the window says stop.
pub(super) async fn run(address: String, mut orders: Orders, window: Arc<Window>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut connection = None;
    let mut request = Vec::with_capacity(256);
    while !window.is(Phase::Stop) {
        let (product, stocked) = orders.next();
        encode(&mut request, &address, product);
        let began = Instant::now();
        let answer = exchange(&mut connection, &address, &request).await;
        let measured = window.is(Phase::Measure);
        let ending = answer.as_ref().map(ending);
        outcome.sagas_in_all += u64::from(matches!(ending, Some(Ending::Confirmed | Ending::Cancelled)));
        if measured {
            outcome.note(ending, stocked, began.elapsed());
        }
        if !matches!(ending, Some(Ending::Confirmed | Ending::Cancelled | Ending::Unfinished)) {
            connection = None;
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
    outcome
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Confirmed,
    Cancelled,
    Unfinished,
    Refused,
}

impl Outcome {
    fn note(&mut self, ending: Option<Ending>, stocked: bool, latency: Duration) {
        match ending {
            Some(Ending::Confirmed) => self.confirmed += 1,
            Some(Ending::Cancelled) => self.cancelled += 1,
            Some(Ending::Unfinished) => self.unfinished += 1,
            Some(Ending::Refused) | None => self.errors += 1,
        }
        if let Some(Ending::Confirmed | Ending::Cancelled) = ending {
            self.wrong += u64::from((ending == Some(Ending::Confirmed)) != stocked);
            self.latencies.add(latency);
        }
    }
}

async fn exchange(connection: &mut Option<Connection>, address: &str, request: &[u8]) -> Option<Answer> {
    // Taken out while it is in use: an exchange that is given up leaves a connection of no use.
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address).await.ok()?,
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, open.exchange(request, false)).await.ok()?.ok()?;
    *connection = Some(open);
    Some(answer)
}

fn encode(request: &mut Vec<u8>, address: &str, product: i64) {
    let body = format!(r#"{{"productId":{product},"orderQty":1}}"#);
    request.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(
        request,
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nPrefer: wait=30\r\nContent-Length: {}\r\n\r\n{body}",
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
    use crate::connection::Answer;

    #[test]
    fn an_answer_tells_how_the_saga_ended() {
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
