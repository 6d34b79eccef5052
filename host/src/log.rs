//! Writes the log to stderr: text lines for a person, or JSON for machines.
//!
//! ```text
//! 14:03:11.204 INFO  plugin active      inventory-command 1.3.0 9c41e7…  generation=8
//! ```

use std::fmt;

use anyhow::Context;
use serde::Deserialize;
use time::{OffsetDateTime, format_description::FormatItem, macros::format_description};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// The environment variable that filters the log, for example `info,saga_host::relay=debug`.
pub const FILTER_VARIABLE: &str = "SAGA_HOST_LOG";
/// Without the warnings of librdkafka, which the host logs itself where they matter, and without Postgres's
/// notices that something exists.
const FILTER_DEFAULT: &str = "info,librdkafka=error,sqlx::postgres::notice=warn";
const MESSAGE_WIDTH_CHARS: usize = 18;
const DIGEST_SHOWN_CHARS: usize = 6;
const TIME: &[FormatItem<'_>] = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for a person.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging, once per process.
///
/// # Errors
/// `SAGA_HOST_LOG` is not a valid filter, or logging has already started.
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| FILTER_DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&text).with_context(|| {
        format!("{FILTER_VARIABLE}={text} must be a filter such as info or warn,saga_host::relay=debug")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr())
                && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colour).event_format(TextFormat).try_init()
        }
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// Formats events as text lines.
struct TextFormat;

impl<S, N> FormatEvent<S, N> for TextFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = OffsetDateTime::now_utc().format(TIME).unwrap_or_default();
        let level = *event.metadata().level();
        match colour(level).filter(|_| out.has_ansi_escapes()) {
            Some(code) => write!(out, "{time} \x1b[{code}m{level:<5}\x1b[0m ")?,
            None => write!(out, "{time} {level:<5} ")?,
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(out, "{}", fields.line())
    }
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

/// The fields of an event in the order of a text line: the message, then plugin, version and digest without
/// their names, then the other fields with their names, and the reason at the end.
#[derive(Default)]
struct Fields {
    message: String,
    plugin: Option<String>,
    version: Option<String>,
    digest: Option<String>,
    reason: Option<String>,
    others: String,
}

impl Fields {
    fn take(&mut self, name: &str, value: String) {
        let value = one_line(value);
        match name {
            "message" => self.message = value,
            "plugin" => self.plugin = Some(value),
            "version" => self.version = Some(value),
            "digest" => self.digest = Some(shorten(&value)),
            "reason" => self.reason = Some(value),
            "was" => self.take("before", shorten(&value)),
            // The bridge from the `log` crate adds the code location of the library.
            _ if name.starts_with("log.") => {}
            _ => {
                self.others.push_str("  ");
                self.others.push_str(name);
                self.others.push('=');
                self.others.push_str(&value);
            }
        }
    }

    fn line(&self) -> String {
        let named: Vec<&str> =
            [&self.plugin, &self.version, &self.digest].into_iter().filter_map(Option::as_deref).collect();
        let mut line = self.message.clone();
        if !(named.is_empty() && self.others.is_empty()) {
            let gap = if line.chars().count() < MESSAGE_WIDTH_CHARS { "" } else { " " };
            line = format!("{line:<MESSAGE_WIDTH_CHARS$}{gap} {}{}", named.join(" "), self.others)
                .trim_end()
                .to_owned();
        }
        if let Some(reason) = &self.reason {
            line.push_str(": ");
            line.push_str(reason);
        }
        line
    }
}

/// The text with control characters escaped: an event is one line, whatever a caller has sent, and a terminal
/// shows it as it is.
fn one_line(text: String) -> String {
    let is_hidden = |char: char| {
        // Line and paragraph separators, and characters that reorder the text of a line.
        char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_hidden) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_hidden(char) {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }
}

/// The first characters of a digest, for a person.
#[must_use]
pub fn shorten(digest: &str) -> String {
    match digest.get(..DIGEST_SHOWN_CHARS) {
        Some(start) if digest.len() > DIGEST_SHOWN_CHARS => format!("{start}…"),
        _ => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn no_text_makes_a_second_line_or_moves_the_cursor() {
        let mut fields = Fields::default();
        fields.take("message", "x.wasm\n14:03:11.204 INFO  forged is not deployed".to_owned());
        fields.take("plugin", "a\u{1b}[2Jb\u{2028}c\u{202e}d".to_owned());
        fields.take("reason", "tab\tand\r\u{e9}".to_owned());
        assert_eq!(
            fields.line(),
            "x.wasm\\n14:03:11.204 INFO  forged is not deployed  a\\u{1b}[2Jb\\u{2028}c\\u{202e}d: \
             tab\\tand\\r\u{e9}"
        );
    }

    #[test]
    fn a_text_line_starts_with_the_message_and_ends_with_the_reason() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("generation", "8"),
            ("digest", "9c41e7aa00"),
            ("version", "1.3.0"),
            ("log.target", "x"),
            ("plugin", "inventory-command"),
            ("message", "plugin active"),
        ] {
            fields.take(name, value.to_owned());
        }
        assert_eq!(fields.line(), "plugin active      inventory-command 1.3.0 9c41e7…  generation=8");
        fields.take("message", "its file is not active".to_owned());
        fields.take("reason", "another was".to_owned());
        assert_eq!(
            fields.line(),
            "its file is not active  inventory-command 1.3.0 9c41e7…  generation=8: another was"
        );
        let mut bare = Fields { message: "stopping".into(), ..Fields::default() };
        assert_eq!(bare.line(), "stopping");
        bare.reason = Some("asked to".into());
        assert_eq!(bare.line(), "stopping: asked to");
    }
}
