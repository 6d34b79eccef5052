//! `Prefer: wait=N` (RFC 7240): how long a caller waits for the end of its saga, and the answer it then gets.
//! <https://www.rfc-editor.org/rfc/rfc7240>

use std::time::Duration;

/// The longest wait that is granted, in seconds.
const WAIT_SECONDS_MAX: u32 = 30;

/// The wait that these `Prefer` headers ask for: the first valid `wait`, in whole seconds, at most 30. The
/// rest is ignored, as the standard requires.
#[must_use]
pub(super) fn wait<'h>(headers: impl Iterator<Item = &'h [u8]>) -> Option<Duration> {
    headers.filter_map(|header| std::str::from_utf8(header).ok()).find_map(|header| {
        parts(header, ',').find_map(|preference| {
            // Semicolons separate the parameters of a preference; `wait` has none.
            let (name, value) = parts(preference, ';').next()?.split_once('=')?;
            name.trim().eq_ignore_ascii_case("wait").then(|| seconds(value))?
        })
    })
}

fn seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse().unwrap_or(WAIT_SECONDS_MAX).min(WAIT_SECONDS_MAX);
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

/// Splits at `separator`, but not within quotes.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |char| {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return char == separator && !quoted,
        }
        false
    })
}

/// The body with the members of `answer` after its own. Unchanged where one of the two is not a JSON object.
#[must_use]
pub(super) fn merge(mut body: Vec<u8>, answer: &str) -> Vec<u8> {
    let kept = body.trim_ascii_end().len();
    let members = answer.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::trim);
    let open = body[..kept].trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    if let (Some(open), Some(members)) = (open, members.filter(|members| !members.is_empty())) {
        let first = open.trim_ascii().is_empty();
        body.truncate(kept - 1);
        if !first {
            body.push(b',');
        }
        body.extend_from_slice(members.as_bytes());
        body.push(b'}');
    }
    body
}

#[cfg(test)]
mod tests {
    use super::{merge, wait};

    #[test]
    fn every_form_of_wait_is_read_and_other_preferences_are_ignored() {
        for (headers, seconds) in [
            (vec!["wait=20"], Some(20)),
            (vec!["wait=20, respond-async"], Some(20)),
            (vec!["respond-async, wait=20"], Some(20)),
            (vec!["foo=\"a,b\";c, Wait=20"], Some(20)),
            (vec!["foo=\"a\\\",wait=1\", WAIT=20"], Some(20)),
            (vec!["wait=\"20\""], Some(20)),
            (vec!["wait = 20"], Some(20)),
            (vec!["wait=20;a=b"], Some(20)),
            (vec!["return=representation", "wait=20"], Some(20)),
            (vec!["wait=abc, wait=7"], Some(7)),
            (vec!["wait=30"], Some(30)),
            (vec!["wait=31"], Some(30)),
            (vec!["wait=99999999999999999999"], Some(30)),
            (vec!["wait=0"], None),
            (vec!["wait=abc"], None),
            (vec!["wait=-1"], None),
            (vec!["wait=+1"], None),
            (vec!["wait"], None),
            (vec!["wait="], None),
            (vec!["wait=1.5"], None),
            (vec!["waiting=5"], None),
            (vec!["a;wait=5"], None),
            (vec!["a=\"wait=5"], None),
            (vec!["return=minimal"], None),
            (vec![""], None),
            (vec![",;=,"], None),
            (vec![], None),
        ] {
            let waits = wait(headers.iter().map(|header| header.as_bytes())).map(|wait| wait.as_secs());
            assert_eq!(waits, seconds, "{headers:?}");
        }
    }

    #[test]
    fn an_answer_is_merged_after_the_members_of_the_body() {
        for (body, answer, merged) in [
            (r#"{"a":1}"#, r#"{"orderStatus":"CONFIRMED"}"#, r#"{"a":1,"orderStatus":"CONFIRMED"}"#),
            ("{ \"a\" : 1 }\n", r#" {"b":2} "#, r#"{ "a" : 1 ,"b":2}"#),
            ("{}", r#"{"b":2}"#, r#"{"b":2}"#),
            (r#"{"a":1}"#, "{}", r#"{"a":1}"#),
            ("[1]", r#"{"b":2}"#, "[1]"),
            ("", r#"{"b":2}"#, ""),
            ("{", r#"{"b":2}"#, "{"),
            (r#"{"a":1}"#, "null", r#"{"a":1}"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&merge(body.into(), answer)), merged, "{body} + {answer}");
        }
    }
}
