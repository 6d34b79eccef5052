//! The log lines of a Kafka client: one when a trouble begins, one when it ends, each with what the client is
//! for and what to do.
//!
//! librdkafka repeats its errors for as long as a trouble lasts, up to hundreds of times a second, and names
//! only its own thread. An error that concerns a record, a partition or a topic comes with the record's answer;
//! the owner of the client logs it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, client::Client, config::RDKafkaLogLevel, error::KafkaError, producer::DeliveryResult,
    producer::ProducerContext, types::RDKafkaErrorCode as Code,
};

/// A lost connection is a trouble when it is reported again after this time: brokers close idle connections,
/// and a restarted broker is back soon.
const OUTAGE_AFTER: Duration = Duration::from_secs(1);
/// Errors that are further apart are not of one trouble: during an outage the client tries to reconnect at least
/// once a second, while a broker closes an idle connection every few minutes.
const APART: Duration = Duration::from_secs(10);
/// How long [`ClientLog::recheck`] waits for the brokers, and the pause between two of its questions.
const RECHECK: Duration = Duration::from_secs(1);

/// Receives the background errors of one Kafka client. Usable as the context of a client that has no other.
#[derive(Debug)]
pub struct ClientLog {
    client: String,
    /// Whether an error was reported that no success has followed: read for each record.
    is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since the first error that no success has followed, and no pause of [`APART`].
    failing_since: Option<Instant>,
    failed_at: Option<Instant>,
    /// Whether the trouble has a log line.
    logged: bool,
    /// What the last failed connection attempt has reported.
    reason: String,
    repeats: u64,
    rechecked_at: Option<Instant>,
}

impl ClientLog {
    /// `client` says what the client is for, e.g. `relay of cmd-order`.
    #[must_use]
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: client.into(), is_failing: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Call when Kafka has answered: ends the trouble, if there is one.
    pub fn works(&self) {
        if !self.is_failing.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        let Some(since) = state.failing_since else { return };
        let ended = std::mem::take(&mut *state);
        self.is_failing.store(false, Ordering::Relaxed);
        drop(state);
        if ended.logged {
            let lasted_s = since.elapsed().as_secs();
            tracing::info!(client = self.client, lasted_s, repeats = ended.repeats, "Kafka answers again");
        }
    }

    /// Why the client cannot work; none when it works, or has failed only just now.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        state.logged.then(|| state.reason.clone())
    }

    /// Asks the brokers whether the trouble has ended, at most once a second. Without traffic nothing else
    /// shows it. Blocks for up to a second while there is a trouble: call it on the thread that polls the
    /// client.
    pub fn recheck<C: ClientContext>(&self, client: &Client<C>) {
        {
            let mut state = self.state.lock();
            if !state.logged || state.rechecked_at.is_some_and(|at| at.elapsed() < RECHECK) {
                return;
            }
            state.rechecked_at = Some(Instant::now());
        }
        // Of no topic in particular: an answer of any broker will do.
        if client.fetch_metadata(None, RECHECK).is_ok() {
            self.works();
        }
    }

    /// Logs the trouble when it begins. Pass what [`ClientContext::error`] gets.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(client = self.client, "Kafka client error: {error}: {reason}");
        let Some(code) = error.rdkafka_error_code() else { return };
        let started = {
            let mut state = self.state.lock();
            let started = state.note(code, reason, Instant::now());
            self.is_failing.store(state.failing_since.is_some(), Ordering::Relaxed);
            started
        };
        if let Some(started) = started {
            tracing::warn!(client = self.client, reason = started, "{}", advice(code));
        }
    }
}

impl State {
    /// The reason to log when this error makes a trouble.
    fn note(&mut self, code: Code, reason: &str, now: Instant) -> Option<String> {
        // These end the client, of which Kafka has refused a record. Its owner judges the record and logs that.
        if matches!(code, Code::Fatal | Code::GaplessGuarantee) {
            return None;
        }
        // This one only counts brokers. The one before it says what failed.
        if code != Code::AllBrokersDown || self.reason.is_empty() {
            reason.clone_into(&mut self.reason);
        }
        self.repeats += 1;
        let failed_before = self.failed_at.replace(now);
        if !self.logged && failed_before.is_some_and(|before| now.duration_since(before) > APART) {
            self.failing_since = None;
        }
        let since = *self.failing_since.get_or_insert(now);
        let lasts = code == Code::AllBrokersDown && now.duration_since(since) >= OUTAGE_AFTER;
        if self.logged || !(lasts || needs_a_person(code)) {
            return None;
        }
        self.logged = true;
        Some(self.reason.clone())
    }
}

/// Whether waiting does not help.
fn needs_a_person(code: Code) -> bool {
    !matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
    )
}

fn advice(code: Code) -> &'static str {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            "Kafka refuses this client, retrying: check the account and the certificates in kafka_properties"
        }
        _ if needs_a_person(code) => "Kafka reports an error, retrying",
        _ => "Kafka is unreachable, retrying: check that the brokers run and that SAGA_HOST_KAFKA names them",
    }
}

impl ClientContext for ClientLog {
    /// The errors among these lines come through [`ClientContext::error`], too.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", client = self.client, "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

impl ProducerContext for ClientLog {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Code, State};

    /// The log lines of errors at these milliseconds.
    fn lines(errors: &[(u64, Code, &str)]) -> Vec<(u64, String)> {
        let (mut state, start) = (State::default(), Instant::now());
        let line = |(ms, code, reason): &(u64, Code, &str)| {
            Some((*ms, state.note(*code, reason, start + Duration::from_millis(*ms))?))
        };
        errors.iter().filter_map(line).collect()
    }

    #[test]
    fn an_outage_is_one_line_that_says_what_failed() {
        let (lost, down) = (Code::BrokerTransportFailure, Code::AllBrokersDown);
        let refused = "b:9092: Connection refused";
        let outage = (0..3_000).step_by(7).flat_map(|ms| [(ms, lost, refused), (ms, down, "1/1 are down")]);
        let logged = lines(&outage.collect::<Vec<_>>());
        assert_eq!(logged, [(1_001, refused.to_owned())]);
    }

    #[test]
    fn a_closed_idle_connection_and_a_fatal_error_are_no_lines() {
        let (lost, down) = (Code::BrokerTransportFailure, Code::AllBrokersDown);
        assert_eq!(lines(&[(0, lost, "closed"), (0, down, "1/1"), (5_000, lost, "closed")]), []);
        let every_ten_minutes = (0..6).flat_map(|times| {
            let at = times * 600_000;
            [(at, lost, "closed"), (at, down, "1/1")]
        });
        assert_eq!(lines(&every_ten_minutes.collect::<Vec<_>>()), []);
        assert_eq!(lines(&[(0, Code::GaplessGuarantee, "gap"), (9_000, Code::Fatal, "gap")]), []);
    }

    #[test]
    fn a_refused_account_is_a_line_at_once() {
        let logged = lines(&[(0, Code::Authentication, "bad password"), (9, Code::Authentication, "again")]);
        assert_eq!(logged, [(0, "bad password".to_owned())]);
    }
}
