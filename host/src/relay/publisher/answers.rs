//! What Kafka answers to the leader, and what follows from it in the database.

use std::time::Instant;

use super::Publisher;
use crate::{
    fault_point,
    relay::{
        alone::Judged,
        in_flight::{Place, unit_and_index},
        isolated::Verdict,
        leader::{LeaderState, SentAlone},
        outbox,
    },
};

impl Publisher<'_> {
    /// Takes Kafka's answers: notes the acknowledged units, and parks the refused records.
    pub(super) async fn collect_answers(&mut self) -> anyhow::Result<()> {
        for (sent, judged) in self.state.alone.take_answers() {
            match sent {
                SentAlone::Isolated(place) => self.judge(&place, judged),
                SentAlone::Redriven => self.state.redriven = Some(judged),
            }
        }
        if let Some(judged) = self.state.redriven.take() {
            let LeaderState { redrive, parked, .. } = &mut *self.state;
            redrive.answered(&mut self.database, parked, judged).await?;
        }
        while let Some((position, reason)) = self.state.to_park.front().cloned() {
            self.park_refused(position, &reason).await?;
            self.state.to_park.pop_front();
        }
        let (acknowledged, total_wait) = self.state.in_flight.lock().take_acknowledged();
        if !acknowledged.is_empty() {
            fault_point::reach("after-publish-before-clear");
            self.relay.latency.acknowledged(&acknowledged, total_wait);
            self.state.acknowledged.extend(acknowledged);
        }
        Ok(())
    }

    /// Kafka has answered to a record of an isolated partition.
    fn judge(&mut self, place: &Place, judged: Judged) {
        let reason = judged.as_ref().err().map_or_else(String::new, |(_, reason)| reason.clone());
        let Some((position, verdict)) = self.state.isolated.answered(place, judged, Instant::now()) else {
            return;
        };
        let (seq, index) = unit_and_index(position);
        match verdict {
            Verdict::Acknowledged => drop(self.state.in_flight.lock().acknowledge(seq, index)),
            Verdict::Park => self.state.to_park.push_back((position, reason)),
            Verdict::Retry => {}
        }
    }

    async fn park_refused(&mut self, position_of: i64, reason: &str) -> anyhow::Result<()> {
        let Some(record) = self.record(position_of) else { return Ok(()) };
        let (seq, index) = unit_and_index(position_of);
        self.state.parked.park(&mut self.database, (seq, index), &record, reason).await?;
        self.complete(position_of);
        tracing::error!(
            database = self.relay.database.name,
            plugin = record.plugin(),
            topic = record.topic,
            partition = record.partition,
            id = record.id(),
            reason,
            "Kafka refuses a record, parking it and later ones of its key: mend the topic, then redrive it"
        );
        Ok(())
    }

    pub(super) async fn delete_acknowledged(&mut self) -> anyhow::Result<()> {
        if self.state.acknowledged.is_empty() {
            return Ok(());
        }
        outbox::delete(&mut self.database, &self.state.acknowledged).await?;
        self.state.parked.forget(&self.state.acknowledged);
        let mut order = self.relay.order.lock();
        self.state.acknowledged.drain(..).for_each(|seq| order.acknowledged(seq));
        Ok(())
    }
}
