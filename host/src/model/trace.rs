//! W3C Trace Context: every record and response continues the trace of its cause.
//! <https://www.w3.org/TR/trace-context/>

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digits::lower_hex;

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;
/// Sampled, and random trace id. The others must not be passed on.
const KNOWN_FLAGS: u8 = 0b11;

/// Bytes of a `tracestate` that are passed on.
const STATE_BYTES_MAX: usize = 512;
/// Members of a `tracestate`; one with more is invalid.
const STATE_MEMBERS_MAX: usize = 32;
/// Longer members of a `tracestate` are the first to be left out.
const STATE_MEMBER_BYTES: usize = 128;

/// The trace id and flags that `traceparent` carries, and the `tracestate` beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    id: u128,
    flags: u8,
    #[serde(skip)]
    state: Option<Arc<str>>,
}

impl Trace {
    /// Starts a new trace, sampled.
    #[must_use]
    pub fn start() -> Self {
        Self { id: uuid::Uuid::new_v4().as_u128(), flags: 1, state: None }
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
        (id != 0 && span != 0).then_some(Self { id, flags, state: None })
    }

    /// The trace with the `tracestate` that its sender gave, the values of all headers of that name. It is passed
    /// on as it is, since the host adds no member of its own, and shortened as the standard says when it is long.
    /// An invalid one is ignored.
    #[must_use]
    pub fn with_state<'v>(self, values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        Self { state: state(values), ..self }
    }

    /// The `tracestate` that belongs beside every `traceparent` of the trace.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
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

fn state<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Option<Arc<str>> {
    let mut members = Vec::new();
    for value in values {
        for member in
            std::str::from_utf8(value).ok()?.split(',').map(|member| member.trim_matches([' ', '\t']))
        {
            if member.is_empty() {
                continue;
            }
            if !member.contains('=') || !member.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return None;
            }
            members.push(member);
        }
    }
    let too_long =
        |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>() > STATE_BYTES_MAX + 1;
    if members.len() > STATE_MEMBERS_MAX {
        return None;
    }
    if too_long(&members) {
        members.retain(|member| member.len() <= STATE_MEMBER_BYTES);
    }
    while too_long(&members) {
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(",").into())
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
    fn the_state_is_passed_on_and_shortened_from_the_end() {
        let state = |values: &[&str]| {
            let trace = Trace::start().with_state(values.iter().map(|value| value.as_bytes()));
            trace.state().map(str::to_owned)
        };
        assert_eq!(
            state(&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"]).as_deref(),
            Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        );
        assert_eq!(state(&["a=1 , ,b=2", "\tc=3"]).as_deref(), Some("a=1,b=2,c=3"));
        for invalid in ["", ",", "a", "a=\u{e9}", "a=1\nb=2", &["a=1"; 33].join(",")] {
            assert_eq!(state(&[invalid]), None, "{invalid}");
        }
        let member = |name: &str, bytes: usize| format!("{name}={}", "x".repeat(bytes - 2));
        let (long, rest) = (member("l", 129), ["a", "b", "c", "d"].map(|name| member(name, 127)));
        assert_eq!(state(&[&rest.join(",")]), Some(rest.join(",")));
        assert_eq!(state(&[&format!("{long},{}", rest.join(","))]), Some(rest.join(",")));
        assert_eq!(state(&[&format!("{},e=1", rest.join(","))]), Some(rest.join(",")));
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
