//! Prints for a person or a program. No other module prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place for output")]

use std::io::{IsTerminal, Write};

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints a line; a closed pipe is not an error.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_ok() {
        let _closed = out.flush();
    }
}

/// Prints JSON for a program.
pub(super) fn json(value: &serde_json::Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints why a command failed.
pub(super) fn error(text: &str) {
    eprintln!("error: {text}");
}
