//! Whether this host reaches the broker that leads a partition.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, Producer as _},
};
use tokio::sync::Mutex;

use super::in_flight::Place;
use crate::kafka::{Brokers, ClientLog};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks with a client of its own, which connects for the first question.
#[derive(Default)]
pub(super) struct Probe(Mutex<Option<Arc<BaseProducer<ClientLog>>>>);

impl Probe {
    /// Whether the leader of the partition answers, whatever its answer is.
    pub(super) async fn reaches(&self, brokers: &Brokers, (topic, partition): &Place) -> bool {
        let Some(client) = self.client(brokers).await else { return false };
        let (topic, partition) = (topic.clone(), *partition);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = client.client().fetch_watermarks(&topic, partition, ANSWER_WITHIN);
            // Takes the client's events, which would pile up during an outage.
            client.poll(Duration::ZERO);
            answer.map_or_else(|error| is_answer(&error), |_| true)
        });
        asked.await.unwrap_or(false)
    }

    async fn client(&self, brokers: &Brokers) -> Option<Arc<BaseProducer<ClientLog>>> {
        let mut client = self.0.lock().await;
        if client.is_none() {
            let log = ClientLog::new("probe of the relay");
            *client = brokers.client(&[], &[]).create_with_context(log).ok().map(Arc::new);
        }
        client.clone()
    }

    /// Disconnects: nothing is to be asked for now.
    pub(super) async fn close(&self) {
        *self.0.lock().await = None;
    }
}

/// Whether an error comes from a broker.
fn is_answer(error: &KafkaError) -> bool {
    !matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::TimedOutQueue
                | Code::Resolve
                | Code::Authentication
                | Code::SSL
                | Code::LeaderNotAvailable
                | Code::Fail
        )
    )
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
