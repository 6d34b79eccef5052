//! `context`: time, ids, settings and log lines.
//!
//! Lines are collected during the call and written after it: only the caller knows the id and trace of a
//! line's cause.

use super::guest::{Guest, OverLimit};
use crate::model::bindings::saga::plugin::{
    context::{Host, Level},
    types::{Timestamp, Uuid},
};

const UUIDS_MAX: u32 = 65_536;
const LINE_BYTES_MAX: usize = 8 << 10;

/// The lines that a guest logged during a call.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    dropped: u32,
}

#[derive(Debug)]
struct Line {
    level: Level,
    cause: Option<u32>,
    text: String,
}

impl Host for Guest {
    async fn now(&mut self) -> wasmtime::Result<Timestamp> {
        Ok(self.now_us)
    }

    async fn new_uuids(&mut self, count: u32) -> wasmtime::Result<Vec<Uuid>> {
        if count > UUIDS_MAX {
            return Err(OverLimit(format!("asks for {count} ids at once, more than {UUIDS_MAX}")).into());
        }
        let now_us = self.now_us;
        let ids = (0..count).map(|_| self.random.id(now_us));
        Ok(ids.map(|(hi, lo)| Uuid { hi, lo }).collect())
    }

    async fn config(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.grant.config.get(&name).cloned())
    }

    async fn log(
        &mut self,
        level: Level,
        cause: Option<u32>,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let most = self.grant.limits.log_lines_max;
        let mut lines = self.progress.lines.lock();
        if lines.lines.len() >= most as usize {
            lines.dropped += 1;
            return Ok(());
        }
        let mut text = message;
        for (name, value) in fields {
            text.push_str(&format!(" {name}={value}"));
        }
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            text.push('…');
        }
        lines.lines.push(Line { level, cause, text });
        Ok(())
    }
}

/// The call that logged the lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSource<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) log_lines_max: u32,
}

impl Lines {
    /// Writes them to the host's log. `name` gives the id and the trace of a cause.
    pub(crate) fn write(self, source: LogSource<'_>, name: impl Fn(u32) -> Option<(String, String)>) {
        let LogSource { plugin, digest, unit, log_lines_max } = source;
        for Line { level, cause, text } in self.lines {
            let (id, trace) = cause.and_then(&name).unwrap_or_default();
            macro_rules! line {
                ($level:ident) => {
                    tracing::$level!(target: "plugin", plugin, digest, unit, id, trace, "{text}")
                };
            }
            match level {
                Level::Trace => line!(trace),
                Level::Debug => line!(debug),
                Level::Info => line!(info),
                Level::Warn => line!(warn),
                Level::Error => line!(error),
            }
        }
        if self.dropped > 0 {
            let dropped = self.dropped;
            tracing::warn!(
                target: "plugin",
                plugin,
                digest,
                unit,
                dropped,
                "log lines dropped: more than log_lines_max = {log_lines_max} in one call"
            );
        }
    }
}
