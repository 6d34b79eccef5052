//! The consumer of a plugin: what it works with, and how long it runs.
//!
//! The host reads its positions from the database, never from Kafka; only `start = "group:NAME"` reads the
//! offsets of a group.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    health::ConsumerHealth,
    reader::{ReaderExit, TopicReader},
};
use crate::{
    claims::partitions::PartitionClaims,
    model::{delivery::Delivery, queue::Queue},
    relay::hand_over::Receivers,
    unit::Backend,
    versions::PluginVersions,
};

/// The parts that a consumer works with.
#[derive(Clone, Debug)]
pub struct ConsumerContext {
    /// The plugin, its database, its role and its topics.
    pub backend: Arc<Backend>,
    /// The plugin's versions on this host. The active one determines the topics and how long to gather.
    pub versions: Arc<PluginVersions>,
    /// The lane's queue.
    pub queue: Arc<Queue<Delivery>>,
    /// The claimed partitions, shared with the lane. Only their records go to the lane.
    pub claims: Arc<PartitionClaims>,
    /// Where relays find it.
    pub receivers: Arc<Receivers>,
    /// The state that the host API shows.
    pub health: Arc<ConsumerHealth>,
    /// Stops the consumer, which then commits its positions to Kafka a last time.
    pub stop: CancellationToken,
}

/// Reads until [`ConsumerContext::stop`]. Blocks the thread.
///
/// # Errors
/// The operator's Kafka properties are invalid.
pub fn run(context: &ConsumerContext, runtime: &Handle) -> anyhow::Result<()> {
    while TopicReader::new(context.clone(), runtime.clone())?.run() == ReaderExit::ClientOutdated {}
    Ok(())
}
