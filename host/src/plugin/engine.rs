//! The wasmtime engine that all plugins share.

/// The engine.
#[derive(Debug)]
pub struct Engine {}
