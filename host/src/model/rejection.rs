//! Why a component or its policy is rejected.

/// Why a component cannot become a version: one sentence for the operator, which says how to correct it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(pub String);
