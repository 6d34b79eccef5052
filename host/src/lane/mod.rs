//! A lane: an ordered queue with its own Postgres connection, one unit of work at a time.

pub mod claim;
pub mod queue;
