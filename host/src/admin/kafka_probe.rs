//! Whether the brokers answer. It uses one client and asks at most once a second, however often `/readyz` is
//! called.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::Mutex;

use crate::kafka::{Brokers, ClientLog};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks the brokers for their metadata.
pub(super) struct KafkaProbe {
    brokers: Brokers,
    last: Mutex<LastProbe>,
}

#[derive(Default)]
struct LastProbe {
    client: Option<Arc<BaseProducer<ClientLog>>>,
    answer: Option<(Instant, Result<(), String>)>,
}

impl KafkaProbe {
    pub(super) fn new(brokers: Brokers) -> Self {
        Self { brokers, last: Mutex::default() }
    }

    /// The last answer if it is recent, otherwise a new one.
    pub(super) async fn answers(&self) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = &last.answer
            && at.elapsed() < ASK_EVERY
        {
            return outcome.clone();
        }
        let outcome = self.ask(&mut last.client).await;
        last.answer = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn ask(&self, client: &mut Option<Arc<BaseProducer<ClientLog>>>) -> Result<(), String> {
        let client = match client {
            Some(client) => client.clone(),
            none => {
                let made = self.brokers.client(&[], &[]).create_with_context(ClientLog::new("readyz"));
                none.insert(Arc::new(made.map_err(|error| error.to_string())?)).clone()
            }
        };
        let asked = tokio::task::spawn_blocking(move || {
            let answered = client.client().fetch_metadata(None, ANSWER_WITHIN).map(drop);
            // Takes the client's events, which would pile up during an outage.
            client.poll(Duration::ZERO);
            if answered.is_ok() {
                client.context().works();
            }
            answered
        });
        asked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}
