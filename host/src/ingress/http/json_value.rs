//! The canonical text of a JSON value: the same for all spellings of the value, so that digests can be
//! compared. Members are sorted by name, numbers keep their exact value, however many digits they have.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// Objects and arrays inside each other, at most: `Reader` is recursive, and a caller must not exhaust the
/// stack.
/// The limit of serde_json, so a plugin that decodes deeper values by it refuses them anyway.
const DEPTH_MAX: usize = 128;

/// The canonical text of `bytes`; none when they are not one JSON value in UTF-8, or one that is deeper than
/// [`DEPTH_MAX`].
#[must_use]
pub(super) fn canonical(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Checks the syntax, so that `Reader` need not. It skips values without recursion, whatever their depth.
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut canonical = String::with_capacity(text.len());
    Reader { rest: text, depth: 0 }.value(&mut canonical)?;
    Some(canonical)
}

/// Reads valid JSON.
struct Reader<'t> {
    rest: &'t str,
    /// Objects and arrays around the present value.
    depth: usize,
}

impl<'t> Reader<'t> {
    fn value(&mut self, out: &mut String) -> Option<()> {
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'{' => self.nested(out, Self::object),
            b'[' => self.nested(out, Self::array),
            b'"' => {
                let text = self.string()?;
                write_string(out, &text)
            }
            b'-' | b'0'..=b'9' => {
                let number = self.take(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
                write_number(out, number)
            }
            _ => {
                let literal = self.take(|byte| byte.is_ascii_lowercase());
                out.push_str(literal);
                Some(())
            }
        }
    }

    fn nested(
        &mut self,
        out: &mut String,
        read: impl FnOnce(&mut Self, &mut String) -> Option<()>,
    ) -> Option<()> {
        if self.depth == DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        read(self, out)?;
        self.depth -= 1;
        Some(())
    }

    fn object(&mut self, out: &mut String) -> Option<()> {
        self.skip(1);
        let mut members: Vec<(Cow<'t, str>, String)> = Vec::new();
        while !self.closes(b'}') {
            let name = self.string()?;
            self.skip_space();
            self.skip(1);
            let mut value = String::new();
            self.value(&mut value)?;
            members.push((name, value));
        }
        // Members of one name keep their order: it depends on the reader which of them counts.
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        out.push('{');
        for (name, value) in members {
            write_string(out, &name)?;
            out.push_str(&value);
            out.push(',');
        }
        out.push('}');
        Some(())
    }

    fn array(&mut self, out: &mut String) -> Option<()> {
        self.skip(1);
        out.push('[');
        while !self.closes(b']') {
            self.value(out)?;
            out.push(',');
        }
        out.push(']');
        Some(())
    }

    /// Skips a comma, or the end of an object or array; true at the end.
    fn closes(&mut self, end: u8) -> bool {
        self.skip_space();
        let closes = self.rest.as_bytes().first().is_none_or(|byte| *byte == end);
        if closes || self.rest.starts_with(',') {
            self.skip(1);
        }
        self.skip_space();
        closes
    }

    /// Reads a string; none when it has a lone surrogate, which is no text.
    fn string(&mut self) -> Option<Cow<'t, str>> {
        let (mut end, bytes) = (1, self.rest.as_bytes());
        while *bytes.get(end)? != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let (string, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        let plain = &string[1..end];
        if plain.contains('\\') {
            serde_json::from_str(string).ok().map(Cow::Owned)
        } else {
            Some(plain.into())
        }
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let end = self.rest.bytes().position(|byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.take(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

fn write_string(out: &mut String, text: &str) -> Option<()> {
    out.push_str(&serde_json::to_string(text).ok()?);
    Some(())
}

/// Writes a number as its digits without zeros at either end, and the exponent of the last digit. None when
/// the exponent itself is too large for 64 bits.
fn write_number(out: &mut String, number: &str) -> Option<()> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    match significant.trim_start_matches('0') {
        "" => out.push('0'),
        significant => {
            out.push_str(sign);
            out.push_str(significant);
            out.push('e');
            out.push_str(&exponent.checked_add(zeros)?.to_string());
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{DEPTH_MAX, canonical};

    #[test]
    fn spellings_of_one_value_are_the_same() {
        for spellings in [
            &[r#"{"a":1,"b":[true,null,"x"]}"#, " { \"b\" : [ true,\tnull , \"x\" ],\r\n\"a\" : 1.0e0 } "][..],
            &["1", "1.0", "1e0", "10e-1", "0.1E+1", "100E-2"],
            &["0", "-0", "0.0", "0e9", "-0.00e-7"],
            &["-1200", "-1.2e3", "-12E2"],
            &[r#""a\/\u00e9""#, "\"a/\u{e9}\""],
            &["[]", "[ ]"],
            &["{}", "{ }"],
            &[r#"{"":{}}"#, r#"{ "" : { } }"#],
        ] {
            let first = canonical(spellings[0].as_bytes());
            assert!(first.is_some(), "{spellings:?}");
            for other in spellings {
                assert_eq!(canonical(other.as_bytes()), first, "{other}");
            }
        }
    }

    #[test]
    fn other_values_differ() {
        let values = [
            "1",
            "-1",
            "10",
            "0.1",
            "\"1\"",
            "[1]",
            "[[1]]",
            "[1,1]",
            "[11]",
            "18446744073709551616",
            "18446744073709551617",
            "0.1000000000000000000000001",
            "1e400",
            "1e401",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"["a","b"]"#,
            r#"["a\",\"b"]"#,
            "null",
            "true",
            "\"null\"",
        ];
        for (place, value) in values.iter().enumerate() {
            assert!(canonical(value.as_bytes()).is_some(), "{value}");
            for other in &values[place + 1..] {
                assert_ne!(canonical(value.as_bytes()), canonical(other.as_bytes()), "{value} {other}");
            }
        }
    }

    #[test]
    fn what_is_not_json_has_no_value() {
        for bad in [&b""[..], b"{", b"{} x", b"nul", b"\"\xff\"", b"\"\\ud800\"", b"1e", b"[[[["] {
            assert_eq!(canonical(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    /// As deep as the largest body allows: none exhausts the stack.
    #[test]
    fn a_value_that_is_too_deep_has_no_canonical_text() {
        let arrays = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let objects = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
        for nested in [arrays(DEPTH_MAX), objects(DEPTH_MAX), format!("[{},1]", arrays(DEPTH_MAX - 1))] {
            assert!(canonical(nested.as_bytes()).is_some(), "{nested}");
        }
        for deep in [arrays(DEPTH_MAX + 1), objects(DEPTH_MAX + 1), arrays(500_000), objects(200_000)] {
            assert_eq!(canonical(deep.as_bytes()), None, "{} bytes", deep.len());
        }
    }
}
