//! Reads a plugin's topics: from the partitions that Kafka assigns to deliveries in the lane's queue.
//!
//! ```text
//!  rebalance ──▶ unclaimed ──▶ claim ──▶ consumer ──▶ record ──▶ the lane's queue
//!  callbacks     partitions    (tasks)   its loop
//! ```

mod burst;
mod claim;
mod client;
pub mod consumer;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hand_over;
pub mod health;
mod offsets;
mod probe;
mod reader;
mod rebalance;
pub mod record;
mod start;
mod topic_watch;
mod unclaimed;
