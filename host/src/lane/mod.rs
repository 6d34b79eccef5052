//! A lane: an ordered queue with its own Postgres connection, one unit of work at a time. While a
//! unit runs the next one gathers, so units grow with load and a lone delivery never waits.
//!
//! [`kafka`] and [`http`] are the two kinds; [`seat`] is what both sit on: a claimed slot and a
//! connection under the plugin's role.

pub mod due;
pub mod http;
pub mod kafka;
mod pace;
pub mod seat;
