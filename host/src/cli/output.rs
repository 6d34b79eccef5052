//! What a person reads: the only module that prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place for output")]

use std::io::{IsTerminal, Write};

/// Whether a person looks at it, and not another program.
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

/// Says why a command failed.
pub(super) fn error(text: &str) {
    eprintln!("error: {text}");
}
