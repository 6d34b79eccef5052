//! W3C Trace Context: every record and response continues the trace of its cause.
//! <https://www.w3.org/TR/trace-context/>

use serde::{Deserialize, Serialize};

use super::digits::lower_hex;

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;
/// Sampled, and random trace id. The others must not be passed on.
const KNOWN_FLAGS: u8 = 0b11;

/// The trace id and flags that `traceparent` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    id: u128,
    flags: u8,
}

impl Trace {
    /// Starts a new trace, sampled.
    #[must_use]
    pub fn start() -> Self {
        Self { id: uuid::Uuid::new_v4().as_u128(), flags: 1 }
    }

    /// Parses `traceparent`. None when it does not have the form of version 00, as the standard requires:
    /// hexadecimal digits in lower case only. A later version may add parts at the end.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        // version - trace id - span id - flags
        let (parts, rest) = header.trim_ascii().split_at_checked(TRACEPARENT_BYTES)?;
        if [parts[2], parts[35], parts[52]] != [b'-'; 3] {
            return None;
        }
        let version = lower_hex(&parts[..2]).filter(|version| *version != 0xff)?;
        if !rest.is_empty() && (version == 0 || rest[0] != b'-') {
            return None;
        }
        let (id, span) = (lower_hex(&parts[3..35])?, lower_hex(&parts[36..52])?);
        let flags = u8::try_from(lower_hex(&parts[53..])?).ok()? & KNOWN_FLAGS;
        (id != 0 && span != 0).then_some(Self { id, flags })
    }

    /// The `traceparent` of a child span. The id 0 is invalid and becomes 1.
    #[must_use]
    pub fn child(&self, span: u64) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, span.max(1), self.flags)
    }

    /// The trace id, 32 lower-case hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn a_child_keeps_the_trace_id() {
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let child = Trace::parse(parent).map(|trace| trace.child(0xab));
        assert_eq!(child.as_deref(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01"));
    }

    #[test]
    fn unknown_flags_and_parts_of_later_versions_are_dropped() {
        let later = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-else";
        let child = Trace::parse(later).map(|trace| trace.child(1));
        assert_eq!(child.as_deref(), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-03"));
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for bad in [
            "",
            "00-0-0-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "0A-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
