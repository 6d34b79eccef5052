//! Where deliveries come in: Kafka records and HTTP requests.

pub mod consumer;
pub mod http;
pub mod record;
