//! The saga host.
