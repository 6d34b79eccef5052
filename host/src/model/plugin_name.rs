//! The name of a plugin, checked. It names files, a Postgres role and a Kafka group, and stands in log lines,
//! so no unchecked text takes its place.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr};

use serde::Serialize;

/// With the prefix `plugin_` a name must fit into a Postgres identifier of 63 bytes.
const CHARS_MAX: usize = 56;
/// Characters of another text that an error shows.
const SHOWN_CHARS_MAX: usize = 64;

/// 1 to 56 lower-case letters, digits and `-`, of which the first is a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PluginName(String);

/// A text that is no plugin's name. It shows the text without control characters, and not all of a long one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not the name of a plugin, which has 1 to {CHARS_MAX} lower-case letters, digits and `-`, and \
     starts with a letter"
)]
pub struct NotPluginName(String);

impl PluginName {
    /// Checks a name.
    ///
    /// # Errors
    /// It has other characters, or too many.
    pub fn parse(text: &str) -> Result<Self, NotPluginName> {
        let fits = text.len() <= CHARS_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        Err(NotPluginName(format!("{shown:?}{more}")))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = NotPluginName;

    fn from_str(text: &str) -> Result<Self, NotPluginName> {
        Self::parse(text)
    }
}

impl Deref for PluginName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for PluginName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::PluginName;

    #[test]
    fn only_a_name_is_one() {
        let (longest, too_long) = ("a".repeat(56), "a".repeat(57));
        for name in ["a", "order-query", "p2-", longest.as_str()] {
            assert_eq!(PluginName::parse(name).unwrap().as_str(), name);
        }
        for text in [
            "",
            "2a",
            "-a",
            "A",
            "a.b",
            "a_b",
            "a/b",
            "../x",
            "/tmp/x",
            "..",
            ".",
            "a b",
            "a\nb",
            "a\0",
            "\u{e4}",
            too_long.as_str(),
        ] {
            assert!(PluginName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_is_one_short_line() {
        let error = PluginName::parse("a\nERROR forged\u{1b}[2J").unwrap_err().to_string();
        assert!(error.starts_with(r#""a\nERROR forged\u{1b}[2J" is not the name"#), "{error}");
        assert!(PluginName::parse(&"x".repeat(1 << 20)).unwrap_err().to_string().len() < 300);
    }
}
