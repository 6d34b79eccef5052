//! What a level wrote: rows, transactions and WAL as Postgres counts them, bytes as the broker counts them.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use saga_testkit::database::{Counters, Databases};
use saga_testkit::service::TOPICS;
use saga_testkit::topic::{blocking, log_size};

/// The counters at one moment.
pub(super) struct Written {
    postgres: Counters,
    /// Unknown when the broker does not report sizes.
    kafka: Option<BTreeMap<String, i64>>,
}

/// What was written for one saga.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PerSaga {
    /// Transactions, committed or rolled back.
    pub transactions: f64,
    /// Rows inserted.
    pub inserted: f64,
    /// Rows updated.
    pub updated: f64,
    /// Rows deleted.
    pub deleted: f64,
    /// Bytes of write-ahead log.
    pub wal_bytes: f64,
    /// Bytes that the logs of the six topics grew by.
    pub kafka_bytes: Option<f64>,
    /// Bytes that the logs of Kafka's own topics grew by, with committed offsets.
    pub kafka_offsets_bytes: Option<f64>,
}

impl Written {
    pub(super) async fn now(databases: &Databases, brokers: &str) -> Result<Self> {
        let brokers = brokers.to_owned();
        let kafka = blocking(move || log_size::by_topic(&brokers)).await.ok();
        Ok(Self { postgres: databases.counters().await?, kafka })
    }

    pub(super) fn per_saga_since(&self, earlier: &Self, sagas: u64) -> PerSaga {
        let each = |count: i64| count as f64 / sagas.max(1) as f64;
        let grown = |counts: &dyn Fn(&str) -> bool| {
            let total = |sizes: &BTreeMap<String, i64>| {
                sizes.iter().filter(|(topic, _)| counts(topic)).map(|(_, bytes)| bytes).sum::<i64>()
            };
            Some(each(total(self.kafka.as_ref()?) - total(earlier.kafka.as_ref()?)))
        };
        let postgres = self.postgres.since(earlier.postgres);
        PerSaga {
            transactions: each(postgres.transactions),
            inserted: each(postgres.inserted),
            updated: each(postgres.updated),
            deleted: each(postgres.deleted),
            wal_bytes: each(postgres.wal_bytes),
            kafka_bytes: grown(&|topic| TOPICS.contains(&topic)),
            kafka_offsets_bytes: grown(&|topic| topic == "__consumer_offsets"),
        }
    }
}

impl PerSaga {
    /// Rows inserted, updated and deleted.
    pub(crate) fn rows(&self) -> f64 {
        self.inserted + self.updated + self.deleted
    }
}

#[cfg(test)]
mod tests {
    use super::Written;
    use saga_testkit::database::Counters;

    #[test]
    fn what_was_written_is_divided_by_sagas() {
        let at = |wal_bytes, topic, offsets| Written {
            postgres: Counters { wal_bytes, transactions: 3, ..Counters::default() },
            kafka: Some(
                [("order-created-topic", topic), ("__consumer_offsets", offsets), ("foreign", topic)]
                    .map(|(name, bytes)| (name.to_owned(), bytes))
                    .into(),
            ),
        };
        let per_saga = at(5000, 900, 60).per_saga_since(&at(1000, 100, 20), 4);
        assert!((per_saga.wal_bytes - 1000.0).abs() < 1e-9 && per_saga.transactions.abs() < 1e-9);
        assert_eq!((per_saga.kafka_bytes, per_saga.kafka_offsets_bytes), (Some(200.0), Some(10.0)));
        let unknown = Written { postgres: Counters::default(), kafka: None };
        assert_eq!(at(1, 1, 1).per_saga_since(&unknown, 1).kafka_bytes, None);
    }
}
