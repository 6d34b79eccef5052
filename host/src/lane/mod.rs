//! A lane: an ordered queue with its own Postgres connection, one unit of work at a time. While a
//! unit runs the next one gathers, so units grow with load and a lone delivery never waits.
//!
//! [`kafka`] and [`http`] are the two kinds; [`seat`] is what both sit on: a claimed slot and a
//! connection under the plugin's role.

mod batching;
pub mod connection;
pub mod http;
pub mod kafka;
pub mod scheduler;
