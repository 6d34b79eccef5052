//! Says why a guest stopped in mid-call. Pure.

use crate::capability::guest::OverLimit;

/// Characters of a guest's own text (what it printed, a response's body) in a message.
const QUOTED_CHARS_MAX: usize = 500;

/// The limit that the guest exceeded, or its panic and the trap. `printed` is what it wrote to stdout and
/// stderr.
pub(super) fn reason(error: &wasmtime::Error, printed: &str, call_bytes_max: usize) -> String {
    if let Some(limit) = error.downcast_ref::<OverLimit>() {
        return limit.to_string();
    }
    let trap = match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            Some(exit) => format!("it called exit({})", exit.0),
            None => error.root_cause().to_string(),
        },
    };
    // wasmtime has no type of its own for exhausted host-call fuel.
    if trap.contains("fuel") {
        return format!("passes more than call_bytes_max = {call_bytes_max} bytes to the host in one call");
    }
    match last_panic(printed) {
        Some(panic) => format!("{panic}; {trap}"),
        None => trap,
    }
}

/// The last panic that was printed, in one line: `panicked at src/lib.rs:7:5: message`.
fn last_panic(printed: &str) -> Option<String> {
    let start = printed.rfind("panicked at ")?;
    let lines = printed.get(start..)?.lines().take_while(|line| !line.starts_with("note: "));
    let text = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    Some(truncate(&text))
}

/// The beginning of a guest's text, short enough for a message.
pub(super) fn truncate(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::last_panic;

    #[test]
    fn a_panic_is_shown_in_one_line() {
        let printed = "x\n\nthread '<unnamed>' (1) panicked at src/lib.rs:7:5:\nno stock\n\
                       note: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(last_panic(printed).as_deref(), Some("panicked at src/lib.rs:7:5: no stock"));
        assert_eq!(last_panic("fine\n"), None);
    }
}
