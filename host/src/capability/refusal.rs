//! The codes of `refusal` in `wit/types.wit`: stable, so that a plugin may branch on them.

use crate::model::bindings::saga::plugin::types::Refusal;

/// The policy does not grant the topic, or `describe` does not list it.
pub(super) const TOPIC_NOT_GRANTED: &str = "topic-not-granted";
/// The message is larger than Kafka takes.
pub(super) const TOO_LARGE: &str = "too-large";
/// A limit of the unit: messages, or bytes of everything that it asks for.
pub(super) const UNIT_FULL: &str = "unit-full";
/// Not in lower case, or one that the host writes itself.
pub(super) const HEADER_NOT_ALLOWED: &str = "header-not-allowed";
/// `describe` does not list the saga's type.
pub(super) const SAGA_NOT_OWNED: &str = "saga-not-owned";
/// The saga exists already, has ended, or is at another revision.
pub(super) const SAGA_CONFLICT: &str = "saga-conflict";
/// A `GET`: nothing can be written.
pub(super) const READ_ONLY: &str = "read-only";
/// No such place in the batch.
pub(super) const NO_SUCH_CAUSE: &str = "no-such-cause";
/// Not JSON, empty, or with a NUL, which Postgres cannot hold.
pub(super) const MALFORMED: &str = "malformed";

/// One refusal.
pub(super) fn refuse(code: &str, cause: Option<u32>, message: impl Into<String>) -> Refusal {
    Refusal { code: code.to_owned(), message: message.into(), cause }
}
