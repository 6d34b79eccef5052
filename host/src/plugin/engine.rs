//! The wasmtime engine that all plugins share.

/// The engine.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// `cache_dir` keeps compiled components.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(_cache_dir: impl Into<std::path::PathBuf>) -> anyhow::Result<Self> {
        Ok(Self {})
    }
}
