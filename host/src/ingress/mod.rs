//! Where deliveries come in: Kafka records and HTTP requests.

pub mod consumer;
pub mod correlation;
pub mod delivery;
pub mod http;
pub mod record;
pub mod trace;
