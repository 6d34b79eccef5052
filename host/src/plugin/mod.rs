//! Plugins: from a component's bytes to the result of one call.
//!
//! ```text
//!  bytes ──▶ check::format ──▶ component_cache ──▶ check ──▶ component ──▶ describe ──▶ version
//!                              machine code        imports,  linked        manifest,
//!                                                  exports                 policy
//!
//!  batch ──▶ version ──▶ lower ──▶ instance (one call) ──▶ lift ──▶ outcomes, responses, or a fault
//!                                  guest time, memory
//! ```
//!
//! It never touches the plugin folder, and never decides which version is active.

pub mod call;
mod check;
mod component;
mod component_cache;
pub mod engine;
mod instance;
mod lift;
mod low_priority_thread;
pub(crate) mod lower;
mod saga_conflict;
mod ticker;
mod trap;
pub mod version;
