//! HTTP callers that wait for the end of a saga (`Prefer: wait`).

/// Those of one plugin.
#[derive(Debug, Default)]
pub struct Waiters {}
