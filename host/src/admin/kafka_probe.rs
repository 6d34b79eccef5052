//! Whether the brokers answer. One client, asked at most once a second however often readiness is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::Mutex;

use crate::{config::Config, kafka::Brokers};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Asks the brokers for the topics that there are.
pub(super) struct KafkaProbe {
    brokers: Brokers,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<BaseProducer>>,
    last: Option<(Instant, Result<(), String>)>,
}

impl KafkaProbe {
    pub(super) fn new(config: &Config) -> Self {
        Self { brokers: Brokers::new(&config.kafka, &config.kafka_properties), state: Mutex::default() }
    }

    /// The last answer, or a new one.
    pub(super) async fn answers(&self) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if let Some((at, outcome)) = &state.last
            && at.elapsed() < ASK_EVERY
        {
            return outcome.clone();
        }
        let outcome = self.ask(&mut state.client).await;
        state.last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn ask(&self, client: &mut Option<Arc<BaseProducer>>) -> Result<(), String> {
        let client = match client {
            Some(client) => client.clone(),
            none => {
                let made: BaseProducer =
                    self.brokers.client(&[], &[]).create().map_err(|error| error.to_string())?;
                none.insert(Arc::new(made)).clone()
            }
        };
        let asked = tokio::task::spawn_blocking(move || {
            client.client().fetch_metadata(None, ANSWER_WITHIN).map(drop)
        });
        asked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}
