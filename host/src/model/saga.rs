//! A live saga as a unit has read it.

/// A live saga, locked by this unit.
#[derive(Clone, Debug)]
pub struct LiveSaga {
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Digest of the version that it stays with.
    pub version: String,
    /// Transitions so far, from 1.
    pub revision: i64,
    /// State.
    pub state: String,
    /// JSON.
    pub data: String,
    /// Microseconds since 1970.
    pub started_at_us: i64,
    /// Its deadline, microseconds since 1970.
    pub next_at_us: i64,
}
