//! The codes of `refusal` in `wit/types.wit`. They are stable: a plugin may branch on them.

use crate::model::bindings::saga::plugin::types::Refusal;

/// The policy does not grant the topic, or `describe` does not list it.
pub(super) const TOPIC_NOT_GRANTED: &str = "topic-not-granted";
/// The message is larger than Kafka accepts.
pub(super) const TOO_LARGE: &str = "too-large";
/// Over a limit of the call: messages, or bytes of all effects.
pub(super) const UNIT_FULL: &str = "unit-full";
/// The header's name is empty, not in lower case, or one that the host writes.
pub(super) const HEADER_NOT_ALLOWED: &str = "header-not-allowed";
/// `describe` does not list the saga's type.
pub(super) const SAGA_NOT_OWNED: &str = "saga-not-owned";
/// The saga exists, has ended, or is at another revision.
pub(super) const SAGA_CONFLICT: &str = "saga-conflict";
/// The request is read-only.
pub(super) const READ_ONLY: &str = "read-only";
/// The cause is not a place in the batch.
pub(super) const NO_SUCH_CAUSE: &str = "no-such-cause";
/// Not JSON, empty, with a NUL, which Postgres cannot store, or an event that only the host writes.
pub(super) const MALFORMED: &str = "malformed";

pub(super) fn refuse(code: &str, cause: Option<u32>, message: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), message: message.into(), cause }
}
