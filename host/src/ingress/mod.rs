//! Where deliveries and requests enter: Kafka records and HTTP requests.

pub mod http;
pub mod kafka;
