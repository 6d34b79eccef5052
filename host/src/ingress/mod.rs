//! Where deliveries come in: Kafka records and HTTP requests.

pub mod correlation;
pub mod delivery;
pub mod http;
pub mod trace;
