//! Reads a plugin's topics: from the partitions that Kafka assigns to deliveries in the lane's queue.

mod claims;
pub mod consumer;
pub mod health;
pub mod record;
mod start;
