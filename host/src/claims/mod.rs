//! What a host has claimed in a database: lanes, by a lease, and partitions. Every write is fenced by both.

pub mod lane_lease;
pub mod partition;
pub mod partitions;
