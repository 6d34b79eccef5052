//! The first position of a plugin in a partition that it has never read.

use std::time::Duration;

use anyhow::Context;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::{claims::partitions::TopicPartition, kafka::Brokers, model::policy::Start};

const WITHIN: Duration = Duration::from_secs(10);

/// The first offset to read. `ends` are the lowest offset, and the one after the highest.
///
/// # Errors
/// The brokers are unreachable, or refuse to show the offsets of another group.
pub(super) async fn first_offset(
    brokers: &Brokers,
    start: &Start,
    place: &TopicPartition,
    ends: (i64, i64),
) -> anyhow::Result<i64> {
    let (low, high) = ends;
    match start {
        Start::Earliest => Ok(low),
        Start::Latest => Ok(high),
        Start::Group(group) => {
            let (brokers, group, place) = (brokers.clone(), group.clone(), place.clone());
            let committed = tokio::task::spawn_blocking(move || committed(&brokers, &group, &place));
            let committed = committed.await.context("reading the offsets of a group")??;
            Ok(committed.map_or(low, |offset| offset.clamp(low, high)))
        }
    }
}

/// What a group has committed; none when it has never read the partition.
fn committed(brokers: &Brokers, group: &str, place: &TopicPartition) -> anyhow::Result<Option<i64>> {
    let consumer: BaseConsumer =
        brokers.client(&[], &[("group.id", group)]).create().context("setting up a Kafka client")?;
    let mut list = TopicPartitionList::new();
    list.add_partition(&place.0, place.1);
    let offsets = consumer
        .committed_offsets(list, WITHIN)
        .with_context(|| format!("reading the offsets of group {group} in {}/{}", place.0, place.1))?;
    Ok(offsets.elements().first().and_then(|element| match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }))
}
