//! Writes records as other services do.

use anyhow::{Context, Result};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{CALL_TIMEOUT, RECORD_BYTES_MAX};

/// A producer like that of another service.
pub struct Writer {
    producer: FutureProducer,
}

/// A record to write. By default it has only a value.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Key.
    pub key: Option<String>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Partition; by default, the partitioner chooses it.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; by default, now.
    pub timestamp_ms: Option<i64>,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

impl Draft {
    /// A record of this text alone.
    pub fn text(value: impl Into<String>) -> Self {
        Self { value: Some(value.into().into_bytes()), ..Self::default() }
    }
}

impl Writer {
    /// Creates the client.
    ///
    /// # Errors
    /// The client cannot be created.
    pub fn new(brokers: &str) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .set("linger.ms", "0")
            .create()
            .context("a Kafka producer")?;
        Ok(Self { producer })
    }

    /// Writes one record; gives its partition and offset.
    ///
    /// # Errors
    /// Kafka refuses the record or is unreachable.
    pub async fn write(&self, topic: &str, draft: &Draft) -> Result<(i32, i64)> {
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(topic);
        record.key = draft.key.as_deref();
        record.payload = draft.value.as_deref();
        record.partition = draft.partition;
        record.timestamp = draft.timestamp_ms;
        if !draft.headers.is_empty() {
            let add = |headers: OwnedHeaders, (key, value): &(String, String)| {
                headers.insert(Header { key, value: Some(value) })
            };
            record.headers = Some(draft.headers.iter().fold(OwnedHeaders::new(), add));
        }
        let delivery = self
            .producer
            .send(record, CALL_TIMEOUT)
            .await
            .map_err(|(error, _)| error)
            .with_context(|| format!("write to {topic}"))?;
        Ok((delivery.partition, delivery.offset))
    }
}
