//! Plugins: from a file in the plugin folder to one instance in a unit of work.
//!
//! ```text
//!  watch ──▶ check ──▶ component_cache ──▶ version ──▶ instance (one call) ──▶ judge
//!  file      form      machine code        describe,   guest time, memory,     outcomes or
//!                                          policy      capabilities            whose fault
//! ```

pub mod call;
mod check;
mod component_cache;
pub mod engine;
mod instance;
mod lift;
pub(crate) mod lower;
mod ticker;
pub mod version;

pub use crate::model::policy::Policy;
