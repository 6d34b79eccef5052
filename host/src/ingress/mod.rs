//! Where deliveries come in: Kafka records and HTTP requests.

pub mod http;
pub mod kafka;
