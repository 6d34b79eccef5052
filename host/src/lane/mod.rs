//! A lane: a serial executor of units of one plugin, with a queue and a Postgres connection of its own. While
//! a unit runs, the next batch gathers. So units grow with load, and a lone delivery does not wait.
//!
//! ```text
//!  queue ──▶ batching ──▶ unit ──▶ committed: claims, counters, waiters
//!                          │
//!                          └─▶ rolled back: recovery (again, halve, take out, stop; suspicion where the
//!                              cause is unclear)
//! ```
//!
//! [`kafka`] and [`http`] are the two kinds. Both hold a connection: the lane's lease and a session under
//! the plugin's role, acquired again when they are lost.

mod batching;
mod connection;
pub mod http;
pub mod kafka;
mod recovery;
mod scheduler;
mod suspicion;

pub use connection::LaneContext;
