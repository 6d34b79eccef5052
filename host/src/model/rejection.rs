//! Why a component or its policy is refused.

/// Why a component cannot become a version, with the mend in it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(pub String);
