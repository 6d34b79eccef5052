//! A live saga, as a unit reads it.

/// A live saga, locked by this unit.
#[derive(Clone, Debug)]
pub struct LiveSaga {
    /// Type.
    pub saga_type: String,
    /// Key.
    pub key: String,
    /// Digest of the version that handles it.
    pub version: String,
    /// 1 when it starts; each transition adds 1.
    pub revision: i64,
    /// State.
    pub state: String,
    /// JSON.
    pub data: String,
    /// When it was started, microseconds since 1970.
    pub started_at_us: i64,
    /// Its deadline, microseconds since 1970.
    pub next_at_us: i64,
}
