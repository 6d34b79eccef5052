//! Finds out whether a trouble has ended, without waiting for the next record, and which partitions a trouble
//! with records is about: the Kafka client does not name them.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    types::RDKafkaErrorCode,
};

use super::{consumer::ConsumerContext, health::Part};
use crate::{claims::partitions::TopicPartition, kafka::Brokers};

const READ_WITHIN: Duration = Duration::from_secs(3);

/// What an error of the Kafka client is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Connection,
    /// Records of some partition.
    Records,
    Group,
    /// The next offset does not exist.
    OutOfRange,
}

/// Sorts the errors of the Kafka client.
pub(super) fn about(error: &KafkaError) -> About {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => About::OutOfRange,
        Some(
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::SSL
            | Code::Authentication
            | Code::SaslAuthenticationFailed,
        ) => About::Connection,
        Some(
            Code::NotImplemented
            | Code::UnsupportedCompressionType
            | Code::BadCompression
            | Code::BadMessage
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge
            | Code::UnsupportedVersion
            | Code::TopicAuthorizationFailed
            | Code::KafkaStorageError,
        ) => About::Records,
        _ => About::Group,
    }
}

/// Ends the troubles that have ended.
pub(super) async fn check(context: ConsumerContext) {
    let ConsumerContext { backend, claims, health, .. } = &context;
    let plugin = &backend.plugin;
    let cluster = backend.topics.topics().cluster();
    if cluster.answers().await.is_err() {
        return;
    }
    health.end(plugin, |part| *part == Part::Connection);
    let active = context.versions.active();
    let topics = active.version.manifest.subscriptions.iter().map(|subscription| subscription.topic.clone());
    let topics: Vec<String> = topics.collect();
    // A topic that is missing, or that the account may not read, is not subscribed to.
    if cluster.describe(topics.clone()).await.map_or(0, |described| described.len()) < topics.len() {
        return;
    }
    if health.in_group.load(Ordering::Acquire) {
        health.end(plugin, |part| *part == Part::Group);
    }
    let concerns_records = |part: &Part| matches!(part, Part::Records | Part::Unreadable(_));
    if !health.has(concerns_records) {
        return;
    }
    let group = active.version.policy.kafka.group.clone();
    let (brokers, positions) = (cluster.brokers().clone(), claims.positions());
    let read = tokio::task::spawn_blocking(move || unreadable(&brokers, &group, positions)).await;
    let Ok(Ok(unreadable)) = read else { return };
    for (place, reason) in &unreadable {
        health.begin(plugin, Part::Unreadable(place.clone()), reason.clone());
    }
    health.end(plugin, |part| match part {
        Part::Records => true,
        Part::Unreadable(place) => !unreadable.contains_key(place),
        _ => false,
    });
}

/// The partitions whose next record cannot be read, each with the reason. Reads each by itself.
fn unreadable(
    brokers: &Brokers,
    group: &str,
    positions: Vec<(Arc<str>, i32, i64)>,
) -> anyhow::Result<BTreeMap<TopicPartition, String>> {
    let consumer: BaseConsumer = brokers
        .client(
            &[("fetch.wait.max.ms", "100"), ("fetch.error.backoff.ms", "100")],
            &[
                // It never joins the group and commits nothing.
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.partition.eof", "true"),
                ("auto.offset.reset", "error"),
            ],
        )
        .create()
        .context("setting up a Kafka client")?;
    let mut found = BTreeMap::new();
    for (topic, partition, offset) in positions {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
        consumer.assign(&list)?;
        let outcome = match consumer.poll(READ_WITHIN) {
            Some(Err(error)) if about(&error) == About::Records => Some(error.to_string()),
            _ => None,
        };
        if let Some(error) = outcome {
            let reason = format!(
                "{topic}/{partition} is not read: the Kafka client cannot read the records from offset \
                 {offset} on: {error}. Nothing is skipped; the host reads on when they can be read, for \
                 example when the account may read the topic again"
            );
            found.insert((topic, partition), reason);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

    use super::{About, about};

    #[test]
    fn errors_say_what_they_are_about() {
        for (code, expected) in [
            (Code::AllBrokersDown, About::Connection),
            (Code::NotImplemented, About::Records),
            (Code::TopicAuthorizationFailed, About::Records),
            (Code::GroupAuthorizationFailed, About::Group),
            (Code::AutoOffsetReset, About::OutOfRange),
        ] {
            assert_eq!(about(&KafkaError::MessageConsumption(code)), expected, "{code}");
        }
    }
}
